/* A registry of many small images, made up from their numbers, that costs its host as little as possible.

       registry PORT source|target REPOSITORIES TAGS LAYER_BYTES

   Image I of R * T is the tag vN of repository rNNNNN: a config, a layer of its own, a manifest. The source has
   them all; the target has what was pushed to it, and takes nothing else. GET /state gives what it counted: blobs
   and manifests that it has, blobs that were committed again in the same repository, bytes of bodies, requests.
   One thread, epoll; requests may be pipelined. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sha256.h"

#define ROOM (1 << 16)
#define MANIFEST "application/vnd.oci.image.manifest.v1+json"

typedef struct { char hex[65]; uint8_t there; } thing; /* three for each image: config, layer, manifest */
typedef struct { int fd; size_t used, skip; char in[ROOM]; } peer;

static int is_target;
static long repositories, tags, layer_bytes, images;
static thing *things;
static uint32_t *table; /* open addressing: index of a thing + 1 */
static uint64_t mask;
static long requests, bytes, twice;

static void hash_hex(const void *data, size_t size, char *hex) {
    static const char digits[] = "0123456789abcdef";
    uint8_t out[SHA256_SIZE];
    sha256_state state;
    sha256_init(&state);
    sha256_update(sha256_best(), &state, data, size);
    sha256_digest(sha256_best(), &state, out);
    for (int i = 0; i < 32; i++) { hex[2 * i] = digits[out[i] >> 4]; hex[2 * i + 1] = digits[out[i] & 15]; }
    hex[64] = 0;
}

static size_t config_of(long image, char *out) { return (size_t)sprintf(out, "{\"image\":%ld}", image); }

static size_t layer_of(long image, char *out) {
    memset(out, 'a' + (int)(image % 26), (size_t)layer_bytes);
    int n = snprintf(out, 24, "layer %ld ", image);
    out[n] = ' ';
    return (size_t)layer_bytes;
}

static size_t manifest_of(long image, char *out) {
    char config[64];
    return (size_t)sprintf(out,
        "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"config\":{\"mediaType\":"
        "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:%s\",\"size\":%zu},\"layers\":[{"
        "\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:%s\",\"size\":%ld}]}",
        things[3 * image].hex, config_of(image, config), things[3 * image + 1].hex, layer_bytes);
}

static uint64_t key_of(const char *hex) {
    char head[17];
    memcpy(head, hex, 16);
    head[16] = 0;
    return strtoull(head, NULL, 16);
}

static thing *find(const char *hex) {
    for (uint64_t at = key_of(hex) & mask; table[at]; at = (at + 1) & mask)
        if (!strncmp(things[table[at] - 1].hex, hex, 64)) return &things[table[at] - 1];
    return NULL;
}

static void build(void) {
    static char data[1 << 20];
    images = repositories * tags;
    things = calloc((size_t)images * 3, sizeof *things);
    for (mask = 1; mask < (uint64_t)images * 6; mask *= 2) {}
    table = calloc(mask, sizeof *table);
    mask--;
    for (long image = 0; image < images; image++)
        for (int kind = 0; kind < 3; kind++) {
            size_t size = kind == 0 ? config_of(image, data) : kind == 1 ? layer_of(image, data) : manifest_of(image, data);
            thing *each = &things[3 * image + kind];
            hash_hex(data, size, each->hex);
            each->there = !is_target;
            uint64_t at = key_of(each->hex) & mask;
            while (table[at]) at = (at + 1) & mask;
            table[at] = (uint32_t)(3 * image + kind + 1);
        }
}

static void push(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR) continue; /* answers are small, and peers read them */
            return;
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void answer(int fd, int status, const char *fields, const char *body, size_t size, int is_head) {
    static char out[1 << 21];
    int n = sprintf(out, "HTTP/1.1 %d .\r\n%sContent-Length: %zu\r\n\r\n", status, fields, size);
    if (!is_head && size) memcpy(out + n, body, size);
    push(fd, out, (size_t)n + (is_head ? 0 : size));
}

static void missing(int fd, int is_head) { answer(fd, 404, "", "{\"errors\":[]}", 13, is_head); }

static void send_list(int fd, const char *path) {
    static char body[1 << 20];
    size_t n;
    if (!strncmp(path, "/v2/_catalog", 12)) {
        n = (size_t)sprintf(body, "{\"repositories\":[");
        for (long i = 0; i < repositories; i++) n += (size_t)sprintf(body + n, "%s\"r%05ld\"", i ? "," : "", i);
    } else {
        n = (size_t)sprintf(body, "{\"name\":\"r\",\"tags\":[");
        long repository = atol(path + 5);
        int some = 0;
        for (long i = 0; i < tags; i++)
            if (things[3 * (repository * tags + i) + 2].there)
                n += (size_t)sprintf(body + n, "%s\"v%ld\"", some++ ? "," : "", i);
    }
    n += (size_t)sprintf(body + n, "]}");
    answer(fd, 200, "Content-Type: application/json\r\n", body, n, 0);
}

static void state(int fd) {
    char body[256];
    long blobs = 0, manifests = 0;
    for (long i = 0; i < 3 * images; i++) *(i % 3 == 2 ? &manifests : &blobs) += things[i].there;
    int n = sprintf(body, "{\"blobs\":%ld,\"manifests\":%ld,\"twice\":%ld,\"bytes\":%ld,\"requests\":%ld}", blobs,
                    manifests, twice, bytes, requests);
    answer(fd, 200, "", body, (size_t)n, 0);
}

static void send_thing(int fd, thing *found, int is_head) {
    static char data[1 << 20];
    char fields[256];
    long index = found - things, image = index / 3;
    int kind = (int)(index % 3);
    size_t size = kind == 0 ? config_of(image, data) : kind == 1 ? layer_of(image, data) : manifest_of(image, data);
    sprintf(fields, "Content-Type: %s\r\nDocker-Content-Digest: sha256:%s\r\n",
            kind == 2 ? MANIFEST : "application/octet-stream", found->hex);
    answer(fd, 200, fields, data, size, is_head);
}

/* One request, whose line and fields are in `head`, and whose body has been, or will be, skipped. */
static void handle(int fd, char *head, const char *body) {
    char *path = strchr(head, ' ') + 1, fields[512];
    int is_head = !strncmp(head, "HEAD", 4);
    *strchr(path, ' ') = 0;
    requests++;
    if (!strcmp(path, "/state")) { requests--; state(fd); return; }
    if (!strcmp(path, "/v2/")) { answer(fd, 200, "", "{}", 2, 0); return; }
    if (!strncmp(path, "/v2/_catalog", 12) || strstr(path, "/tags/list")) { send_list(fd, path); return; }
    char *name = strstr(path, "/manifests/"), *blob = strstr(path, "/blobs/");
    char *digest = strstr(path, "sha256:");
    if (!strncmp(head, "POST", 4)) {
        char *mount = strstr(path, "mount=sha256"); /* each blob is in one repository, so the origin is not read */
        thing *found = mount ? find(mount + 12 + (mount[12] == ':' ? 1 : 3)) : NULL;
        if (found && found->there) {
            sprintf(fields, "Location: /v2/x\r\nDocker-Content-Digest: sha256:%s\r\n", found->hex);
            answer(fd, 201, fields, "", 0, 0);
            return;
        }
        sprintf(fields, "Location: %.200s/1\r\nRange: 0-0\r\n", path);
        char *query = strchr(fields, '?');
        if (query) sprintf(query, "/1\r\nRange: 0-0\r\n");
        answer(fd, 202, fields, "", 0, 0);
    } else if (!strncmp(head, "PUT", 3)) {
        thing *found = NULL;
        if (name) { /* a tag: vN of rNNNNN */
            long image = atol(path + 5) * tags + atol(name + 12);
            found = name[11] == 'v' ? (image < images ? &things[3 * image + 2] : NULL) : digest ? find(digest + 7) : NULL;
        } else {
            char *query = strstr(path, "digest=sha256");
            if (query) found = find(query + 13 + (query[13] == ':' ? 1 : 3));
        }
        (void)body;
        if (!found) { answer(fd, 400, "", "", 0, 0); return; }
        twice += found->there && !name;
        found->there = 1;
        sprintf(fields, "Location: /v2/x\r\nDocker-Content-Digest: sha256:%s\r\n", found->hex);
        answer(fd, 201, fields, "", 0, 0);
    } else if (name || blob) {
        long image = name && name[11] == 'v' ? atol(path + 5) * tags + atol(name + 12) : -1;
        thing *found = image >= 0 ? (image < images ? &things[3 * image + 2] : NULL) : digest ? find(digest + 7) : NULL;
        if (!found || !found->there) missing(fd, is_head);
        else send_thing(fd, found, is_head);
    } else {
        missing(fd, is_head);
    }
}

/* Returns 0 when the peer is gone. */
static int serve(peer *each) {
    for (;;) {
        ssize_t got = recv(each->fd, each->in + each->used, ROOM - 1 - each->used, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return 0;
        if (got < 0) return 1;
        if (each->skip) {
            size_t taken = (size_t)got < each->skip ? (size_t)got : each->skip;
            each->skip -= taken;
            memmove(each->in, each->in + taken, (size_t)got - taken);
            got -= (ssize_t)taken;
        }
        each->used += (size_t)got;
        each->in[each->used] = 0;
        if (each->in[0] == 0x16) return 0; /* TLS; without an answer a client would wait before it tries HTTP */
        char *end;
        while (!each->skip && (end = strstr(each->in, "\r\n\r\n"))) {
            *end = 0;
            char *field = strcasestr(each->in, "\r\ncontent-length:");
            size_t body = field ? strtoul(field + 17, NULL, 10) : 0, begin = (size_t)(end + 4 - each->in);
            size_t here = each->used - begin < body ? each->used - begin : body;
            bytes += (long)body;
            handle(each->fd, each->in, end + 4);
            each->skip = body - here;
            each->used -= begin + here;
            memmove(each->in, each->in + begin + here, each->used);
            each->in[each->used] = 0;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: registry PORT source|target REPOSITORIES TAGS LAYER_BYTES\n"); return 2; }
    is_target = !strcmp(argv[2], "target");
    repositories = atol(argv[3]);
    tags = atol(argv[4]);
    layer_bytes = atol(argv[5]);
    if (layer_bytes < 32 || layer_bytes > 1 << 19) return 2;
    build();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) { perror("listen"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            peer *each = events[i].data.ptr;
            if (!each) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                each = calloc(1, sizeof *each);
                each->fd = fd;
                event.events = EPOLLIN;
                event.data.ptr = each;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            } else if (!serve(each)) {
                close(each->fd);
                free(each);
            }
        }
    }
}
