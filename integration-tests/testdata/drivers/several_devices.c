/* A driver of CUDA's with devices whose memory is the machine's, and which run no kernels.
   DEVICES: how many there are. BROKEN: the one that can't be opened. DELAY_MS: how long it takes to say so.
   What uploads the bytes of "LOST" loses the device, for all of its context until that is given back; so does every so many-th
   upload, by chance, if LOSE_ONE_IN says so. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, DEVICE_UNAVAILABLE = 46, INVALID_DEVICE = 101, ILLEGAL_ADDRESS = 700 };
enum { MOST = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int owners[MOST], lost[MOST];
static __thread size_t current; /* the device and one */

/* From the file `settings` beside the library, with lines NAME=NUMBER. */
static int setting(const char *name, int otherwise) {
    char path[4096], key[32];
    int value, found = otherwise;
    snprintf(path, sizeof path, "%s/settings", getenv("LD_LIBRARY_PATH") ? getenv("LD_LIBRARY_PATH") : ".");
    FILE *file = fopen(path, "r");
    while (file && fscanf(file, " %31[^=]=%d", key, &value) == 2)
        if (strcmp(key, name) == 0) found = value;
    if (file) fclose(file);
    return found;
}

static int state(void) { return current && lost[current - 1] ? ILLEGAL_ADDRESS : OK; }

int cuInit(unsigned flags) { return OK; }
int cuDeviceGetCount(int *count) { *count = setting("DEVICES", 1); return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < MOST ? OK : INVALID_DEVICE; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "Imagined %d", device); return OK; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0, 16); uuid[15] = device; return OK; }
int cuDeviceGetUuid(char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)1 << 30; return OK; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    /* Number of its bus; whether it has memory pools, which the odd ones lack. */
    *value = attribute == 33 ? device + 1 : attribute == 115 ? device % 2 == 0 : 0;
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (device == setting("BROKEN", -1)) {
        usleep(1000 * setting("DELAY_MS", 0));
        return DEVICE_UNAVAILABLE;
    }
    pthread_mutex_lock(&lock);
    owners[device]++;
    pthread_mutex_unlock(&lock);
    *context = (void *)(size_t)(device + 1);
    return OK;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    pthread_mutex_lock(&lock);
    if (--owners[device] == 0) lost[device] = 0;
    pthread_mutex_unlock(&lock);
    return OK;
}

int cuCtxSetCurrent(void *context) { current = (size_t)context; return OK; }
int cuCtxGetCurrent(void **context) { *context = (void *)current; return OK; }
int cuCtxSynchronize(void) { return state(); }

int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)1; return state(); }
int cuStreamDestroy_v2(void *stream) { return OK; }
int cuStreamSynchronize(void *stream) { return state(); }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return state(); }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)1; return state(); }
int cuEventDestroy_v2(void *event) { return OK; }
int cuEventRecord(void *event, void *stream) { return state(); }
int cuEventSynchronize(void *event) { return state(); }

int cuMemAlloc_v2(void **memory, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > (size_t)1 << 30) return OUT_OF_MEMORY;
    *memory = malloc(bytes);
    return state();
}

int cuMemAllocAsync(void **memory, size_t bytes, void *stream) { return cuMemAlloc_v2(memory, bytes); }
int cuMemFree_v2(void *memory) { free(memory); return OK; }
int cuMemFreeAsync(void *memory, void *stream) { return cuMemFree_v2(memory); }

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    memcpy(to, from, bytes);
    int one_in = setting("LOSE_ONE_IN", 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (one_in && now.tv_nsec / 100 % one_in == 0) lost[current - 1] = 1;
    if (bytes == 4 && memcmp(from, "LOST", 4) == 0) lost[current - 1] = 1;
    return state();
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    memcpy(to, from, bytes);
    return state();
}

int cuGetErrorName(int error, const char **name) {
    *name = error == DEVICE_UNAVAILABLE ? "CUDA_ERROR_DEVICE_UNAVAILABLE" : error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
    return OK;
}

int cuGetErrorString(int error, const char **text) {
    *text = error == DEVICE_UNAVAILABLE ? "the device is busy or unavailable" : "something else";
    return OK;
}
