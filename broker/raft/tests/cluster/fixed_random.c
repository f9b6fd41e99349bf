/* Preloaded into a simulation: random numbers of the system are always the same. What Rust's hash maps
 * and tokio's watch channels and selects draw begins with them. */
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    (void)flags;
    memset(buffer, 42, length);
    return (ssize_t)length;
}
