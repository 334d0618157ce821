/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.c - edit distance over short words, see nearest.h. */
#include "core/base/nearest.h"

#include <string.h>

enum { LONGEST = 64 }; /* longer words have no near one */

/* Insertions, deletions and replacements that turn a into b (both at most LONGEST), by the usual
 * table, of which only one row is kept. */
static size_t nearest_distance(const char *a, const char *b)
{
	size_t row[LONGEST + 1];
	size_t columns = strlen(b), i, j;

	for (j = 0; j <= columns; j++)
		row[j] = j;
	for (i = 0; a[i] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (j = 0; j < columns; j++) {
			size_t best = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			row[j + 1] = best;
		}
	}
	return row[columns];
}

const char *nearest_word(const char *word, const char *const *words, size_t count)
{
	const char *nearest = NULL;
	size_t best = 0, i;

	if (strlen(word) > LONGEST)
		return NULL;
	for (i = 0; i < count; i++) {
		size_t length = strlen(words[i]), distance;

		if (length > LONGEST)
			continue;
		distance = nearest_distance(word, words[i]);
		if (distance > 1 + length / 4)
			continue;
		if (!nearest || distance < best) {
			nearest = words[i];
			best = distance;
		}
	}
	return nearest;
}
