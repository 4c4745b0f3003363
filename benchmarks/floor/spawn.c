/* spawn OUT PROGRAM ARGUMENT...: runs a program and writes what it cost as JSON to the file OUT.
 *
 * Why not os.wait4 in the harness: Linux counts the memory of the process that forked towards ru_maxrss of the
 * program that it became, so a child of a 60 MiB Python has a "peak" of 60 MiB or more. This parent is small.
 * CPU time includes all descendants that were waited for; peak_rss is that of the largest single process;
 * tree_rss is the largest sum over the program and its children, looked at every 20 ms.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_NS (20 * 1000 * 1000)

static double seconds(struct timeval value) { return (double)value.tv_sec + (double)value.tv_usec / 1e6; }

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return (double)value.tv_sec + (double)value.tv_nsec / 1e9;
}

/* Bytes resident in `pid` and its descendants; 0 when it is gone. Children of its first thread only: xargs has
 * no other, and no other client starts processes. */
static long resident(pid_t pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*s %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    long total = pages * sysconf(_SC_PAGESIZE);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return total;
    int child;
    while (fscanf(file, "%d", &child) == 1)
        total += resident(child);
    fclose(file);
    return total;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: spawn OUT PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    sigset_t ended, before;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, &before);
    double start = now();
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status;
    struct rusage usage;
    long most = 0;
    const struct timespec pause = {.tv_nsec = SAMPLE_NS};
    pid_t waited;
    while ((waited = wait4(child, &status, WNOHANG, &usage)) == 0) {
        long sum = resident(child);
        if (sum > most)
            most = sum;
        sigtimedwait(&ended, NULL, &pause);
    }
    if (waited < 0) {
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
            " \"tree_rss\": %ld, \"minor_faults\": %ld, \"switches\": %ld}\n",
            code, wall, seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss * 1024, most, usage.ru_minflt,
            usage.ru_nvcsw + usage.ru_nivcsw);
    return fclose(out) == 0 ? 0 : 2;
}
