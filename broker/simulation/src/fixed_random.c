/* Preloaded into a simulation: the random numbers of the system are the same in every run (SplitMix64: Steele,
 * Lea, Flood 2014). What Rust's hash maps, UUIDs and tokio's selects draw begins with them. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

static uint64_t state = 42;

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    unsigned char *out = buffer;
    size_t done = 0;
    (void)flags;
    while (done < length) {
        uint64_t z = __atomic_add_fetch(&state, 0x9E3779B97F4A7C15u, __ATOMIC_RELAXED);
        size_t part = length - done < sizeof z ? length - done : sizeof z;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        memcpy(out + done, &z, part);
        done += part;
    }
    return (ssize_t)length;
}
