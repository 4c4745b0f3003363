/* relay SOURCE_PORT TARGET_PORT REPOSITORY DIGEST SIZE: the floor of a verified copy of one blob.
 *
 * One thread, one connection a side, plaintext on 127.0.0.1: recv into one hot buffer, SHA-256, send. The hash is
 * the kernel that crossdock runs (ext/crossdock/_ext/sha256*.c), so that a comparison shows what is around it. The
 * commit is honest: the digest is compared before the last bytes are sent. The manifest is not copied.
 */
#define _GNU_SOURCE
#include "sha256.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (256 * 1024)
#define HEAD 16384

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int dial(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    return fd;
}

static void send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            fail("send");
        data += sent;
        size -= (size_t)sent;
    }
}

__attribute__((format(printf, 2, 3))) static void send_text(int fd, const char *format, ...)
{
    char text[HEAD];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    send_all(fd, (const uint8_t *)text, (size_t)size);
}

/* Reads an answer's head into `head` and returns how many bytes of the body came with it, at *body. */
static size_t receive_head(int fd, char head[HEAD + 1], int status, uint8_t **body)
{
    size_t size = 0;
    for (;;) {
        ssize_t got = recv(fd, head + size, HEAD - size, 0);
        if (got <= 0)
            fail("recv of a head");
        size += (size_t)got;
        head[size] = 0;
        char *end = strstr(head, "\r\n\r\n");
        if (end != NULL) {
            if (atoi(head + strlen("HTTP/1.1 ")) != status) {
                fprintf(stderr, "relay: expected %d: %.200s\n", status, head);
                exit(1);
            }
            end[2] = 0;
            *body = (uint8_t *)end + 4;
            return (size_t)(head + size - (end + 4));
        }
    }
}

static void find_location(const char *head, char path[HEAD])
{
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, "location: ", 10) != 0)
            continue;
        const char *start = line + 10;
        if (strncmp(start, "http://", 7) == 0)
            start = strchr(start + 7, '/');
        snprintf(path, HEAD, "%.*s", (int)strcspn(start, "\r"), start);
        return;
    }
    fprintf(stderr, "relay: no Location\n");
    exit(1);
}

static void check(const sha256_implementation *with, const sha256_state *state, const char *digest)
{
    uint8_t raw[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];
    sha256_digest(with, state, raw);
    for (int i = 0; i < SHA256_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", raw[i]);
    if (strcmp(text, digest + strlen("sha256:")) != 0) {
        fprintf(stderr, "relay: got sha256:%s\n", text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: relay SOURCE_PORT TARGET_PORT REPOSITORY DIGEST SIZE\n");
        return 2;
    }
    const char *repository = argv[3], *digest = argv[4];
    size_t missing = strtoull(argv[5], NULL, 10);
    static char head[HEAD + 1], path[HEAD];
    static uint8_t buffer[BUFFER] __attribute__((aligned(4096)));
    uint8_t *body;

    int target = dial(argv[2]);
    send_text(target, "POST /v2/%s/blobs/uploads/ HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Length: 0\r\n\r\n",
              repository, argv[2]);
    receive_head(target, head, 202, &body);
    find_location(head, path);

    int source = dial(argv[1]);
    send_text(source, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n\r\n", repository, digest, argv[1]);
    send_text(target,
              "PUT %s%cdigest=%s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/octet-stream\r\n"
              "Content-Length: %zu\r\n\r\n",
              path, strchr(path, '?') != NULL ? '&' : '?', digest, argv[2], missing);

    const sha256_implementation *with = sha256_best();
    sha256_state state;
    sha256_init(&state);
    size_t got = receive_head(source, head, 200, &body);
    while (missing > 0) {
        if (got == 0) {
            ssize_t received = recv(source, buffer, BUFFER, 0);
            if (received <= 0)
                fail("recv");
            got = (size_t)received;
            body = buffer;
        }
        sha256_update(with, &state, body, got);
        missing -= got;
        if (missing == 0)
            check(with, &state, digest);
        send_all(target, body, got);
        got = 0;
    }
    receive_head(target, head, 201, &body);
    close(source);
    close(target);
    return 0;
}
