/* What the processor can do, asked of it: not every compiler's library answers that. */
#include "native.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum { AVX2 = 1 << 5 };
enum { F = 1 << 16, DQ = 1 << 17, BW = 1 << 30, VL = (int)(1u << 31), VNNI = 1 << 11 };
enum { FMA = 1 << 12, OSXSAVE = 1 << 27 };
enum { WIDE_256 = 0x06, WIDE_512 = 0xe6 }; /* registers that the system saves */

/* 512, 256 or 0: the vectors for which every instruction that the steps use is there. */
int vector_bits(void) {
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | OSXSAVE)) != (FMA | OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    unsigned wanted = F | DQ | BW | (unsigned)VL;
    if ((b & wanted) == wanted && (c & VNNI) && (saved & WIDE_512) == WIDE_512) return 512;
    return (b & AVX2) && (saved & WIDE_256) == WIDE_256 ? 256 : 0;
}
#else
int vector_bits(void) { return 0; }
#endif
