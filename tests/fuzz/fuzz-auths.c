/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-auths.c - any bytes as a docker-style credential document.
 *
 * Properties: found means that there is something, with user and password both or none, and a
 * registry token that can stand in a header; ask means a program and a server; none and refused
 * mean that nothing is left; the answer is the same again; EINVAL has a message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/answer.h"
#include "fetch/auths.h"
#include "tests/fuzz/fuzz.h"

static bool is_empty(const struct credentials *c)
{
	return !c->user && !c->password && !c->identity_token && !c->registry_token;
}

static void check(int r, const struct credentials *c, const struct auths_program *p,
		  const struct err *e)
{
	FUZZ_CHECK((r == AUTHS_FOUND) == !is_empty(c));
	FUZZ_CHECK((r == AUTHS_ASK) == (p->name && p->server));
	FUZZ_CHECK(!p->name == !p->server && !c->user == !c->password);
	FUZZ_CHECK(!c->registry_token || answer_is_printable(c->registry_token));
	FUZZ_CHECK(r >= 0 || (r == -EINVAL && strncmp(e->msg, "auths: '", 8) == 0));
}

static void look_for(json_t *document, const char *host, const char *repository)
{
	struct credentials c, again;
	struct auths_program p, p_again;
	struct err e = { "" };
	int r = auths_find(document, host, repository, &c, &p, &e);

	check(r, &c, &p, &e);
	FUZZ_CHECK(auths_find(document, host, repository, &again, &p_again, NULL) == r);
	FUZZ_CHECK(credentials_equal(&c, &again));
	credentials_release(&c);
	credentials_release(&again);
	auths_program_release(&p);
	auths_program_release(&p_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	/* Exactly as long as the input, which may be at NULL when it is empty. */
	char *text = malloc(n > 0 ? n : 1);
	struct err e = { "" };
	json_t *document = NULL;
	int r;

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	r = answer_parse(text, n, ANSWER_SECRET, &document, &e);
	if (r == 0) {
		look_for(document, "reg.io", "a/b/c");
		look_for(document, "reg.io:5000", "a");
		look_for(document, "docker.io", "library/a");
	} else {
		FUZZ_CHECK(r == -EINVAL && !document && e.msg[0] != '\0');
	}
	answer_forget(document);
	free(text);
	return 0;
}
