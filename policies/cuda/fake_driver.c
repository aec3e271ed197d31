/* A CUDA driver without a device: memory is the host's, copies are real, kernels do nothing.
 *
 * With it in the place of libcuda.so.1, a build with the feature `cuda` runs from end to end where there is no GPU: it
 * generates the source of every kernel, has NVRTC compile it, and hands the PTX over here, which is written to the folder
 * FAKE_CUDA_PTX. Results are zeros. See check_ptx.py. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
enum { OK = 0, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

/* The device that it claims to be: an H100. */
enum { MAJOR = 9, MINOR = 0 };

#define STUB(name) CUresult name(void) { return OK; }
STUB(cuInit)
STUB(cuCtxSetCurrent)
STUB(cuCtxSynchronize)
STUB(cuDevicePrimaryCtxRelease_v2)
STUB(cuStreamSynchronize)
STUB(cuStreamDestroy_v2)
STUB(cuStreamWaitEvent)
STUB(cuStreamQuery)
STUB(cuEventRecord)
STUB(cuEventSynchronize)
STUB(cuEventQuery)
STUB(cuEventDestroy_v2)
STUB(cuModuleUnload)
STUB(cuFuncSetAttribute)
STUB(cuLaunchKernel)
STUB(cuLaunchKernelEx)
STUB(cuTensorMapEncodeTiled)
STUB(cuTensorMapEncodeIm2col)
STUB(cuTensorMapEncodeIm2colWide)
CUresult cuStreamBeginCapture_v2(void) { return NOT_SUPPORTED; }
/* NVRTC looks for tables of the driver's own, and goes without. */
CUresult cuGetExportTable(const void **table, const void *id) { (void)table, (void)id; return NOT_FOUND; }

static void *some(void) {
    static char place[16];
    return place;
}
CUresult cuDriverGetVersion(int *version) { *version = 13000; return OK; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return OK; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
CUresult cuDeviceGetName(char *name, int len, int device) {
    (void)device;
    snprintf(name, (size_t)len, "No device");
    return OK;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)80 << 30; return OK; }
CUresult cuMemGetInfo_v2(size_t *left, size_t *total) { *left = *total = (size_t)80 << 30; return OK; }
CUresult cuDeviceGetUuid_v2(char *uuid, int device) { (void)device; memset(uuid, 0, 16); return OK; }
CUresult cuDeviceGetPCIBusId(char *id, int len, int device) {
    (void)device;
    snprintf(id, (size_t)len, "0000:00:00.0");
    return OK;
}
CUresult cuDeviceGetLuid(void) { return NOT_SUPPORTED; }
CUresult cuDevicePrimaryCtxRetain(void **ctx, int device) { (void)device; *ctx = some(); return OK; }
CUresult cuCtxGetCurrent(void **ctx) { *ctx = some(); return OK; }
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = 0; return OK; }
CUresult cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = some(); return OK; }
CUresult cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)flags, (void)priority;
    *stream = some();
    return OK;
}
CUresult cuEventCreate(void **event, unsigned flags) { (void)flags; *event = some(); return OK; }
/* Long, so that what measures the device's speed is soon content. */
CUresult cuEventElapsedTime(float *ms, void *a, void *b) { (void)a, (void)b; *ms = 20.0f; return OK; }
CUresult cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }
CUresult cuGetErrorName(CUresult error, const char **text) { (void)error; *text = "FAKE"; return OK; }
CUresult cuGetErrorString(CUresult error, const char **text) { (void)error; *text = "no device"; return OK; }

CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 1: *value = 1024; break;                              /* threads a block */
    case 2: case 3: *value = 1024; break;                      /* block x, y */
    case 4: *value = 64; break;                                /* block z */
    case 5: *value = 2147483647; break;                        /* grid x */
    case 6: case 7: *value = 65535; break;                     /* grid y, z */
    case 8: *value = 49152; break;                             /* shared memory a block */
    case 10: *value = 32; break;                               /* warp */
    case 12: *value = 65536; break;                            /* registers a block */
    case 16: *value = 132; break;                              /* multiprocessors */
    case 75: *value = MAJOR; break;
    case 76: *value = MINOR; break;
    case 81: *value = 233472; break;                           /* shared memory a multiprocessor */
    case 97: *value = 232448; break;                           /* shared memory a block, opted in */
    default: *value = 1;
    }
    return OK;
}

/* Zeroed, so that what kernels do not write is at least a number. */
static CUresult take(uint64_t *place, size_t bytes) {
    *place = (uint64_t)(uintptr_t)calloc(bytes ? bytes : 1, 1);
    return *place ? OK : 2;
}
CUresult cuMemAlloc_v2(uint64_t *place, size_t bytes) { return take(place, bytes); }
CUresult cuMemAllocAsync(uint64_t *place, size_t bytes, void *stream) { (void)stream; return take(place, bytes); }
CUresult cuMemAllocHost_v2(void **place, size_t bytes) { return take((uint64_t *)place, bytes); }
CUresult cuMemFree_v2(uint64_t place) { free((void *)(uintptr_t)place); return OK; }
CUresult cuMemFreeAsync(uint64_t place, void *stream) { (void)stream; return cuMemFree_v2(place); }
CUresult cuMemFreeHost(void *place) { free(place); return OK; }
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    (void)stream;
    memcpy((void *)(uintptr_t)to, from, bytes);
    return OK;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    (void)stream;
    memcpy(to, (void *)(uintptr_t)from, bytes);
    return OK;
}
CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    return cuMemcpyHtoDAsync_v2(to, (void *)(uintptr_t)from, bytes, stream);
}
CUresult cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
    (void)stream;
    memset((void *)(uintptr_t)to, value, bytes);
    return OK;
}

typedef struct {
    size_t x, y;
    int kind; /* 1: host, else device */
    const void *host;
    uint64_t device;
    void *array;
    size_t pitch;
} Side;
typedef struct {
    Side from, to;
    size_t width, height;
} Copy;
CUresult cuMemcpy2DAsync_v2(const Copy *c, void *stream) {
    (void)stream;
    const char *from = c->from.kind == 1 ? c->from.host : (const char *)(uintptr_t)c->from.device;
    char *to = c->to.kind == 1 ? (char *)c->to.host : (char *)(uintptr_t)c->to.device;
    for (size_t row = 0; row < c->height; row++) {
        const char *src = from + (c->from.y + row) * c->from.pitch + c->from.x;
        memcpy(to + (c->to.y + row) * c->to.pitch + c->to.x, src, c->width);
    }
    return OK;
}

/* The compiled kernels arrive here. */
CUresult cuModuleLoadData(void **module, const void *image) {
    static int count;
    const char *folder = getenv("FAKE_CUDA_PTX");
    *module = some();
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%04d.ptx", folder, __sync_fetch_and_add(&count, 1));
        FILE *file = fopen(path, "w");
        if (!file) return 2;
        fputs(image, file);
        fclose(file);
    }
    return OK;
}
CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module, (void)name;
    *function = some();
    return OK;
}
