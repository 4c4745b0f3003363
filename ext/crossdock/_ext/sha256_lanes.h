/* `compress` and `compress_many` from the functions of an implementation for one stream. Not a header: included once by
 * each C file that uses it, after `stream`, `load_state`, `begin_block`, `four_rounds`, `end_block` and `store_state`,
 * with SHA256_TARGET and SHA256_INLINE set as its functions need.
 *
 * One stream alone waits for its own rounds most of the time: on x86 an instruction takes 4 cycles, and the next could
 * begin after 2 (Zen 4) or 3 (Golden Cove). The rounds of other streams fill the gap: two streams run at most 2 or
 * 1.33 times as fast as one after another (measured: ext/README.md).
 */
#define EACH_LANE(what) \
    do { \
        what(0); \
        if (lanes > 1) { \
            what(1); \
        } \
        if (lanes > 2) { \
            what(2); \
        } \
        if (lanes > 3) { \
            what(3); \
        } \
    } while (0)
#define LOAD(i) load_state(&s[i], words[i], blocks[i])
#define BEGIN(i) begin_block(&s[i])
#define FOUR_ROUNDS(i) four_rounds(&s[i], group)
#define END(i) end_block(&s[i])
#define STORE(i) store_state(&s[i], words[i])
#define GROUP(number) \
    do { \
        enum { group = number }; \
        EACH_LANE(FOUR_ROUNDS); \
    } while (0)

/* `lanes` is a constant wherever this is inlined: the branches are decided by the compiler. */
SHA256_INLINE void compress_lanes(uint32_t *const words[], const uint8_t *const blocks[], size_t count, int lanes) {
    stream s[SHA256_LANES];

    EACH_LANE(LOAD);
    for (; count != 0; count--) {
        EACH_LANE(BEGIN);
        GROUP(0);
        GROUP(1);
        GROUP(2);
        GROUP(3);
        GROUP(4);
        GROUP(5);
        GROUP(6);
        GROUP(7);
        GROUP(8);
        GROUP(9);
        GROUP(10);
        GROUP(11);
        GROUP(12);
        GROUP(13);
        GROUP(14);
        GROUP(15);
        EACH_LANE(END);
    }
    EACH_LANE(STORE);
}

SHA256_TARGET static void compress(uint32_t words[8], const uint8_t *blocks, size_t count) {
    compress_lanes(&words, &blocks, count, 1);
}

SHA256_TARGET static void compress_many(uint32_t *const words[], const uint8_t *const blocks[], size_t lanes,
                                        size_t count) {
    if (lanes == 2) {
        compress_lanes(words, blocks, count, 2);
    } else if (lanes == 3) {
        compress_lanes(words, blocks, count, 3);
    } else {
        compress_lanes(words, blocks, count, 4);
    }
}
