/* A driver of CUDA's that has a device, and lacks most functions: one of another age, or one that is half installed. */
int cuInit(unsigned flags) { return 0; }

int cuDeviceGetCount(int *count) { *count = 1; return 0; }

int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
