/* A driver of CUDA's on a machine without a device. */
enum { CUDA_ERROR_NO_DEVICE = 100 };

int cuInit(unsigned flags) { return CUDA_ERROR_NO_DEVICE; }

int cuDeviceGetCount(int *count) { *count = 0; return CUDA_ERROR_NO_DEVICE; }

int cuGetErrorName(int error, const char **name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }

int cuGetErrorString(int error, const char **text) { *text = "no CUDA-capable device is detected"; return 0; }
