#include "support/close.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* How many times its tolerance an element is off; infinite for a NaN. */
static double times_tolerance(double got, double want, double atol, double rtol)
{
    double tolerance = atol + rtol * fabs(want);
    double off = fabs(got - want);

    if (isnan(got) || isnan(want))
        return INFINITY;
    if (got == want) /* also where both are the same infinity */
        return 0;
    return tolerance > 0 ? off / tolerance : INFINITY;
}

void assert_close_at(const char *name, const float *got, const float *want, size_t n,
                     double atol, double rtol, const char *file, int line)
{
    double worst = 0;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        double times = times_tolerance((double)got[i], (double)want[i], atol, rtol);

        if (times > worst) {
            worst = times;
            at = i;
        }
    }
    if (!(worst <= 1)) {
        print_error("%s[%zu] = %.9g, want %.9g: %.2f times the tolerance\n", name, at,
                    (double)got[at], (double)want[at], worst);
        _fail(file, line);
    }
}

void assert_same_bits_at(const char *name, const float *got, const float *want, size_t n,
                         const char *file, int line)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t g, w;

        memcpy(&g, &got[i], sizeof(g));
        memcpy(&w, &want[i], sizeof(w));
        if (g != w) {
            print_error("%s[%zu] = %.9g (%08" PRIx32 "), want %.9g (%08" PRIx32 ")\n", name, i,
                        (double)got[i], g, (double)want[i], w);
            _fail(file, line);
        }
    }
}
