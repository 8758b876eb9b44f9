/* Has a program believe that the machine has slept for as many seconds as the file named by SLEPT says:
   the clock that goes on in a sleep is so far ahead. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    FILE *file = clock == CLOCK_BOOTTIME ? fopen(getenv("SLEPT"), "r") : NULL;
    long seconds = 0;
    if (file != NULL) {
        if (fscanf(file, "%ld", &seconds) == 1)
            time->tv_sec += seconds;
        fclose(file);
    }
    return failed;
}
