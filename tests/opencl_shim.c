/* opencl_shim.c - a libOpenCL that stands before the machine's own and breaks one thing, named by
 * FAULT: platform, device, build, memory, piece (1 MB at most), lost (after LAST kernels), small
 * (a device of 4 MB), float (no doubles, nothing rounded).  Counts what is opened and closed; what
 * is left at the end goes to standard error.
 *
 *     cc -shared -fPIC tests/opencl_shim.c -ldl -o DIR/libOpenCL.so.1
 *     REAL=/usr/lib/.../libOpenCL.so.1 FAULT=build LD_LIBRARY_PATH=DIR \
 *         fusion image -p cat --device opencl */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int alive, kernels_run;

static int fault(const char *name)
{
    const char *want = getenv("FAULT");
    return want && !strcmp(want, name);
}

static void *real(const char *name)
{
    static void *library;
    if (!library && !(library = dlopen(getenv("REAL"), RTLD_NOW | RTLD_LOCAL))) {
        fprintf(stderr, "opencl_shim: REAL: %s\n", dlerror());
        abort();
    }
    return dlsym(library, name);
}

__attribute__((destructor)) static void tell(void)
{
    if (alive) fprintf(stderr, "opencl_shim: %d objects left\n", alive);
}

#define REAL(f) ((__typeof__(&f))real(#f))

cl_int clGetPlatformIDs(cl_uint n, cl_platform_id *to, cl_uint *count)
{
    if (!fault("platform")) return REAL(clGetPlatformIDs)(n, to, count);
    *count = 0;
    return -1001;                                      /* what the loader says without a driver */
}

cl_int clGetDeviceIDs(cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id *to,
                      cl_uint *count)
{
    if (fault("device")) return CL_DEVICE_NOT_FOUND;
    return REAL(clGetDeviceIDs)(p, t, n, to, count);
}

cl_int clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t n, void *to, size_t *size)
{
    const cl_int code = REAL(clGetDeviceInfo)(d, what, n, to, size);
    if (fault("piece") && what == CL_DEVICE_MAX_MEM_ALLOC_SIZE) *(cl_ulong *)to = 1 << 20;
    if (fault("small") && what == CL_DEVICE_GLOBAL_MEM_SIZE) *(cl_ulong *)to = 4 << 20;
    if (fault("float") && what == CL_DEVICE_DOUBLE_FP_CONFIG) *(cl_device_fp_config *)to = 0;
    if (fault("float") && what == CL_DEVICE_SINGLE_FP_CONFIG)
        *(cl_device_fp_config *)to = CL_FP_ROUND_TO_NEAREST | CL_FP_INF_NAN;
    return code;
}

/* Open and close, counted. */
#define COUNTED(made) do { if (made) alive++; } while (0)

cl_context clCreateContext(const cl_context_properties *p, cl_uint n, const cl_device_id *d,
                           void (CL_CALLBACK *f)(const char *, const void *, size_t, void *),
                           void *user, cl_int *code)
{
    cl_context c = REAL(clCreateContext)(p, n, d, f, user, code);
    COUNTED(c);
    return c;
}
cl_int clReleaseContext(cl_context c) { alive--; return REAL(clReleaseContext)(c); }

cl_command_queue clCreateCommandQueue(cl_context c, cl_device_id d, cl_command_queue_properties p,
                                      cl_int *code)
{
    cl_command_queue q = REAL(clCreateCommandQueue)(c, d, p, code);
    COUNTED(q);
    return q;
}
cl_int clReleaseCommandQueue(cl_command_queue q) { alive--; return REAL(clReleaseCommandQueue)(q); }

cl_program clCreateProgramWithSource(cl_context c, cl_uint n, const char **text, const size_t *size,
                                     cl_int *code)
{
    cl_program p = REAL(clCreateProgramWithSource)(c, n, text, size, code);
    COUNTED(p);
    return p;
}
cl_int clReleaseProgram(cl_program p) { alive--; return REAL(clReleaseProgram)(p); }

cl_int clBuildProgram(cl_program p, cl_uint n, const cl_device_id *d, const char *options,
                      void (CL_CALLBACK *f)(cl_program, void *), void *user)
{
    if (fault("build")) return CL_BUILD_PROGRAM_FAILURE;
    return REAL(clBuildProgram)(p, n, d, options, f, user);
}

cl_int clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_program_build_info what, size_t n,
                             void *to, size_t *size)
{
    if (!fault("build")) return REAL(clGetProgramBuildInfo)(p, d, what, n, to, size);
    snprintf(to, n, "line 7: error: broken on purpose\nline 8: more of it\n");
    return CL_SUCCESS;
}

cl_kernel clCreateKernel(cl_program p, const char *name, cl_int *code)
{
    cl_kernel k = REAL(clCreateKernel)(p, name, code);
    COUNTED(k);
    return k;
}
cl_int clReleaseKernel(cl_kernel k) { alive--; return REAL(clReleaseKernel)(k); }
cl_int clSetKernelArg(cl_kernel k, cl_uint i, size_t n, const void *at)
{
    return REAL(clSetKernelArg)(k, i, n, at);
}

cl_int clEnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint n, const size_t *offset,
                              const size_t *all, const size_t *group, cl_uint waits,
                              const cl_event *wait, cl_event *event)
{
    const char *last = getenv("LAST");
    if (fault("lost") && kernels_run++ >= (last ? atoi(last) : 0)) return CL_INVALID_COMMAND_QUEUE;
    return REAL(clEnqueueNDRangeKernel)(q, k, n, offset, all, group, waits, wait, event);
}

cl_mem clCreateBuffer(cl_context c, cl_mem_flags flags, size_t n, void *at, cl_int *code)
{
    if (fault("memory") || (fault("piece") && n > 1 << 20)) {
        *code = fault("memory") ? CL_MEM_OBJECT_ALLOCATION_FAILURE : CL_INVALID_BUFFER_SIZE;
        if (n > 64) return NULL;
    }
    cl_mem m = REAL(clCreateBuffer)(c, flags, n, at, code);
    COUNTED(m);
    return m;
}
cl_int clReleaseMemObject(cl_mem m) { alive--; return REAL(clReleaseMemObject)(m); }

cl_int clEnqueueWriteBuffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t n,
                            const void *from, cl_uint waits, const cl_event *w, cl_event *event)
{
    return REAL(clEnqueueWriteBuffer)(q, m, wait, at, n, from, waits, w, event);
}
cl_int clEnqueueReadBuffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t n,
                           void *to, cl_uint waits, const cl_event *w, cl_event *event)
{
    return REAL(clEnqueueReadBuffer)(q, m, wait, at, n, to, waits, w, event);
}
cl_int clFinish(cl_command_queue q) { return REAL(clFinish)(q); }
