/* opencl.h - the operations of tensor.h on an OpenCL device.
 *
 *     machine_choose(0, NULL, &e) && opencl_open(0, &e);      opencl_devices(print_one, NULL);
 *
 * Only a build with OPENCL=1 has devices.  libOpenCL is loaded when first asked for; neither it nor
 * a device need be there.  Where a device rounds fused multiply-add, division and square root
 * correctly and has doubles and subnormal numbers, it gives the bytes that the CPU gives: `exact`.
 * Elsewhere each operation stays within OPENCL_ERROR of the largest value. */
#ifndef OPENCL_H
#define OPENCL_H
#include "base.h"

#define OPENCL_ERROR 1e-5

typedef struct {
    char name[128], version[64];
    bool exact;
    uint64_t memory, largest;              /* bytes: of the device, of one piece */
} OpenclDevice;

/* Whether this build can have devices at all. */
bool opencl_built(void);
/* Every device of every platform, in their order: number 0 and up.  none: why there are no more. */
void opencl_devices(void (*each)(void *self, int number, const OpenclDevice *d), void *self,
                    Error *none);
/* From now on operations run on the device of that number.  false, with e: there is none, or its
 * compiler refused.  opencl_close gives everything back; operations run here again. */
bool opencl_open(int number, Error *e);
void opencl_close(void);
/* The first thing that went wrong on the device; true when nothing did. */
bool opencl_worked(Error *e);
#endif
