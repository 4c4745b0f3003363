/* SHA-256 compression with the x86 SHA extensions (Goldmont, Ice Lake, Zen and later). */
#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Compiled for these instructions function by function: the rest of the build stays portable. */
#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
#define WITH_SHA_INLINE static inline __attribute__((always_inline, target("sha,sse4.1,ssse3")))

/* One stream in registers. The instructions want the words in this order, highest lane first. */
typedef struct {
    __m128i abef, cdgh;
    __m128i w[4]; /* sixteen words of the schedule, a ring of four vectors */
} stream;

WITH_SHA_INLINE void load_state(stream *s, const uint32_t words[8]) {
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)words), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(words + 4)), 0x1b);
    s->abef = _mm_alignr_epi8(cdab, efgh, 8);
    s->cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
}

WITH_SHA_INLINE void store_state(const stream *s, uint32_t words[8]) {
    __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* Four of the 64 rounds, and what the schedule can do meanwhile. `group` 0..15 is a constant wherever this is
 * inlined, so the branches are decided by the compiler. The rounds are one chain of dependent instructions; the
 * schedule runs in its gaps: in group g the words of group g + 1 are finished and those of g + 3 begun. */
WITH_SHA_INLINE void four_rounds(stream *s, int group, const uint8_t *block) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *now = &s->w[group & 3], *next = &s->w[(group + 1) & 3], *previous = &s->w[(group + 3) & 3];
    __m128i sum;

    if (group < 4) {
        *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * group)), big_endian);
    }
    sum = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)(sha256_constants + 4 * group)));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, sum);
    if (group >= 3 && group < 15) {
        *next = _mm_add_epi32(*next, _mm_alignr_epi8(*now, *previous, 4));
        *next = _mm_sha256msg2_epu32(*next, *now);
    }
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(sum, 0x0e));
    if (group >= 1 && group < 13) {
        *previous = _mm_sha256msg1_epu32(*previous, *now);
    }
}

WITH_SHA static void compress(uint32_t words[8], const uint8_t *blocks, size_t count) {
    stream s;

    load_state(&s, words);
    for (; count != 0; count--, blocks += SHA256_BLOCK) {
        __m128i abef = s.abef, cdgh = s.cdgh;
        four_rounds(&s, 0, blocks);
        four_rounds(&s, 1, blocks);
        four_rounds(&s, 2, blocks);
        four_rounds(&s, 3, blocks);
        four_rounds(&s, 4, blocks);
        four_rounds(&s, 5, blocks);
        four_rounds(&s, 6, blocks);
        four_rounds(&s, 7, blocks);
        four_rounds(&s, 8, blocks);
        four_rounds(&s, 9, blocks);
        four_rounds(&s, 10, blocks);
        four_rounds(&s, 11, blocks);
        four_rounds(&s, 12, blocks);
        four_rounds(&s, 13, blocks);
        four_rounds(&s, 14, blocks);
        four_rounds(&s, 15, blocks);
        s.abef = _mm_add_epi32(s.abef, abef);
        s.cdgh = _mm_add_epi32(s.cdgh, cdgh);
    }
    store_state(&s, words);
}

/* SSE state is kept by every operating system that runs this, so CPUID alone decides. */
static int is_available(void) {
    unsigned int a, b, c, d;
    const unsigned int needed = bit_SSSE3 | bit_SSE4_1;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed) {
        return 0;
    }
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}

const sha256_implementation sha256_x86 = {"x86-sha", is_available, compress};

#else
typedef int sha256_x86_is_empty_here;
#endif
