/* Is the network in model.h whole, and what does it take? `keras-pipeline edge` writes model.h.
 *
 *     cc -std=c11 -I models/edge examples/edge/check_model.c -lm -o check_model && ./check_model < pixels
 *
 * It counts and sums up the bytes, and shows the raw input of standard input (MODEL_INPUTS bytes, 0 ... 255) as the
 * network takes it. It does not run the network: that is done by TensorFlow Lite Micro, which takes model_bytes,
 * and an arena of MODEL_ARENA_BYTES and what it needs for itself. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

static uint32_t crc32_of(const unsigned char *bytes, size_t length) {
    uint32_t sum = 0xffffffffu;
    for (size_t i = 0; i < length; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (0xedb88320u & -(sum & 1u));
    }
    return ~sum;
}

int main(void) {
    int whole = sizeof model_bytes == MODEL_LENGTH && memcmp(model_bytes + 4, "TFL3", 4) == 0 &&
                crc32_of(model_bytes, MODEL_LENGTH) == MODEL_CRC32 && (uintptr_t)model_bytes % 16 == 0;
    printf("%lu bytes, SHA-256 %s: %s\n", (unsigned long)MODEL_LENGTH, MODEL_SHA256, whole ? "whole" : "DAMAGED");
    unsigned char raw[MODEL_INPUTS];
    if (fread(raw, 1, MODEL_INPUTS, stdin) == MODEL_INPUTS) {
        for (size_t i = 0; i < MODEL_INPUTS; i++) {
            long taken = lroundf((float)raw[i] / MODEL_INPUT_SCALE) + MODEL_INPUT_ZERO_POINT;
            printf("%ld ", taken < -128 ? -128 : taken > 127 ? 127 : taken);
        }
        printf("\n");
    }
    printf("The network was not run: this program only checks the header.\n");
    return whole ? 0 : 1;
}
