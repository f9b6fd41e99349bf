/* Ends the process with a clear line on a processor that lacks what .cargo/config.toml compiles for,
 * instead of SIGILL in the middle of something. In C, since Rust code of this build may not run there;
 * as a constructor, since that comes before main. */
#include <unistd.h>

__attribute__((constructor(101))) static void check_processor(void) {
    static const char missing[] =
        "ottla: this processor has no AVX2, BMI2, FMA or PCLMULQDQ; this build needs x86-64-v3\n"
        "(Intel Haswell, AMD Excavator or newer; in a virtual machine: a CPU model that passes them on)\n";
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("pclmul"))
        return;
    /* The exit status says it too, if nobody can read this. */
    ssize_t written = write(STDERR_FILENO, missing, sizeof missing - 1);
    (void)written;
    _exit(126);
}
