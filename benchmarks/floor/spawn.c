/* spawn OUT PROGRAM ARGUMENT...: runs a program and writes what it cost as JSON to the file OUT.
 *
 * Why not os.wait4 in the harness: Linux counts the memory of the process that forked towards ru_maxrss of the
 * program that it became, so a child of a 60 MiB Python has a "peak" of 60 MiB or more. This parent is small.
 * CPU time includes all descendants that were waited for; peak_rss is that of the largest single process.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval value) { return (double)value.tv_sec + (double)value.tv_usec / 1e6; }

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return (double)value.tv_sec + (double)value.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: spawn OUT PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    double start = now();
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (wait4(child, &status, 0, &usage) < 0) {
        perror("wait4");
        return 2;
    }
    double wall = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *out = fopen(argv[1], "w");
    if (out == NULL) {
        perror(argv[1]);
        return 2;
    }
    fprintf(out,
            "{\"exit\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"peak_rss\": %ld,"
            " \"minor_faults\": %ld, \"switches\": %ld}\n",
            code, wall, seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss * 1024, usage.ru_minflt,
            usage.ru_nvcsw + usage.ru_nivcsw);
    return fclose(out) == 0 ? 0 : 2;
}
