/* SPDX-License-Identifier: Apache-2.0 */
/* test-document_request.c - a document and the request that it becomes, call by call: the test is
 * what submits it.  Over a stage it is in test-document.c. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "fetch/document.h"
#include "tests/unit/fenced_secrets.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define FROM "https://reg.io/v2/x"

static struct document d;
static void (*on_submit)(struct request *q);
static bool checked;

void __wrap_request_submit(struct request *q);

void __wrap_request_submit(struct request *q)
{
	on_submit(q);
}

/* What belongs to waiting for it is made and unmade, though glibc's default is all zero and holds
 * nothing. */
static int made, unmade;

#define WRAP(name, parameters, arguments, count)                                                   \
	int __real_##name parameters;                                                              \
	int __wrap_##name parameters;                                                              \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		count++;                                                                           \
		return __real_##name arguments;                                                    \
	}

WRAP(pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *a), (m, a), made)
WRAP(pthread_cond_init, (pthread_cond_t * c, const pthread_condattr_t *a), (c, a), made)
WRAP(pthread_mutex_destroy, (pthread_mutex_t * m), (m), unmade)
WRAP(pthread_cond_destroy, (pthread_cond_t * c), (c), unmade)

static int take(struct request *q, uint64_t off, const char *text, struct err *e)
{
	q->x.received += strlen(text);
	return q->bytes(q, off, text, strlen(text), e);
}

/* The request ends; its address goes with it, as request.c has it. */
static void finish(struct request *q, int r)
{
	static const struct err none = { "" };
	struct err e;

	q->x.url = FROM;
	q->x.answer.status = 200;
	q->x.answer.location = __real_strdup("/kept");
	if (r < 0)
		err_set(&e, -r, "it ended");
	q->done(q, r, r < 0 ? &e : &none);
}

/* ---- what is asked ---- */

static char place[4];

static int check_nothing(const struct document *doc, const struct http_answer *answer,
			 struct err *e)
{
	checked = true;
	assert_ptr_equal(doc, &d);
	assert_int_equal(answer->status, 0);
	return err_set(e, EBADMSG, "not that");
}

static void look_at_request(struct request *q)
{
	struct err e;

	assert_ptr_equal(q->queue, place);
	assert_int_equal(q->priority, REQUEST_DEMAND);
	assert_string_equal(q->method, "PUT");
	assert_string_equal(q->path, "/p");
	assert_string_equal(q->accept, "a/b");
	assert_string_equal(q->if_none_match, "etag");
	assert_string_equal(q->content_type, "c/d");
	assert_ptr_equal(q->body, place + 1);
	assert_ptr_equal(q->stats, place + 2);
	assert_int_equal(q->silence, 300);
	assert_int_equal(q->companions, 3);
	assert_false(q->ranged);
	assert_int_equal(q->first, 0);
	assert_int_equal(q->last, 0);
	assert_true(atomic_load(&q->deadline) == 12345 && q->retry_until == 678);
	assert_true(!q->starting && !q->judge && !q->may_hold);
	assert_int_equal(q->check(q, &e), -EBADMSG);
	assert_string_equal(e.msg, "not that");
	finish(q, 0);
}

static void a_document_becomes_a_request(void **state)
{
	d = (struct document){
		.queue = (struct queue *)(void *)place,
		.method = "PUT",
		.path = "/p",
		.accept = "a/b",
		.if_none_match = "etag",
		.content_type = "c/d",
		.body = (struct source *)(void *)(place + 1),
		.stats = (struct stats *)(void *)(place + 2),
		.silence = 300,
		.companions = 3,
		.check = check_nothing,
		.deadline = 12345,
		.retry_until = 678,
	};
	on_submit = look_at_request;
	made = unmade = 0;
	assert_int_equal(document_fetch(&d, NULL), 0);
	assert_true(made == 2 && unmade == 2);
	assert_true(checked);
	assert_string_equal(d.from, FROM);
	assert_int_equal(d.answer.status, 200);
	assert_string_equal(d.answer.location, "/kept");
	assert_int_equal(d.n, 0);
	assert_null(d.text);
	document_release(&d);
	assert_true(!d.from && !d.text && !d.answer.location);
}

static void look_at_peek(struct request *q)
{
	struct err e;

	assert_true(q->ranged && q->first == 0 && q->last == 0);
	assert_null(q->check);
	assert_int_equal(take(q, 0, "h", &e), 1);
	assert_int_equal(q->first, 1);
	finish(q, 0);
}

static void a_look_takes_no_text(void **state)
{
	d = (struct document){ .peek = true };
	on_submit = look_at_peek;
	assert_int_equal(document_fetch(&d, NULL), 0);
	assert_null(d.text);
	document_release(&d);
}

/* ---- what comes ---- */

static void bring_8_bytes(struct request *q)
{
	struct err e;

	assert_int_equal(take(q, 0, "gone", &e), 0);
	q->x.received = 0; /* another try */
	assert_int_equal(take(q, 0, "1234", &e), 0);
	assert_true(fences_is_tight(d.text));
	assert_int_equal(take(q, 4, "56", &e), 0);
	assert_int_equal(take(q, 6, "78", &e), 0);
	assert_int_equal(take(q, 8, "9", &e), -EFBIG);
	assert_string_equal(e.msg, "an answer of more than 8 bytes");
	finish(q, 0);
}

static void pieces_are_put_together(void **state)
{
	struct err e = { "as before" };

	d = (struct document){ .limit = 8 };
	on_submit = bring_8_bytes;
	assert_int_equal(document_fetch(&d, &e), 0);
	assert_string_equal(e.msg, "as before");
	assert_string_equal(d.text, "12345678");
	assert_int_equal(d.n, 8);
	assert_true(fences_is_tight(d.text));
	document_release(&d);
}

static void bring_and_then_nothing(struct request *q)
{
	struct err e;

	assert_int_equal(take(q, 0, "gone", &e), 0);
	q->x.received = 0; /* another try, without a byte */
	if (q->check)
		assert_int_equal(q->check(q, &e), 0);
	finish(q, 0);
}

static void an_answer_without_a_byte_has_no_text(void **state)
{
	d = (struct document){ .limit = 8 };
	on_submit = bring_and_then_nothing;
	assert_int_equal(document_fetch(&d, NULL), 0);
	assert_int_equal(d.n, 0);
	document_release(&d);
	/* and its digest is that of no byte */
	d = (struct document){
		.limit = 8,
		.check = document_check_digest,
		.digest = "sha256:"
			  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	assert_int_equal(document_fetch(&d, NULL), 0);
	assert_int_equal(d.n, 0);
	document_release(&d);
}

static void bring_what_has_no_room(struct request *q)
{
	struct err e;

	assert_int_equal(take(q, 0, "1234", &e), 0);
	allocs_left = 0;
	assert_int_equal(take(q, 4, "56", &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	finish(q, 0); /* and none for its address either */
	allocs_left = -1;
}

static void memory_runs_out(void **state)
{
	struct err e = { "" };

	d = (struct document){ .limit = 8 };
	on_submit = bring_what_has_no_room;
	assert_int_equal(document_fetch(&d, &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	assert_null(d.from);
	assert_string_equal(d.text, "1234");
	document_release(&d);
	assert_int_equal(document_fetch(&d, NULL), -ENOMEM);
	document_release(&d);
}

static void end_badly(struct request *q)
{
	finish(q, -EACCES);
}

static void a_failure_is_told(void **state)
{
	struct err e = { "as before" };

	d = (struct document){ .limit = 8 };
	on_submit = end_badly;
	assert_int_equal(document_fetch(&d, &e), -EACCES);
	assert_string_equal(e.msg, "it ended");
	assert_null(d.from);
	document_release(&d);
	assert_int_equal(document_fetch(&d, NULL), -EACCES);
	document_release(&d);
}

/* ---- digests ---- */

#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void digests_are_compared(void **state)
{
	char text[] = "hello", sha512[DIGEST_ANY_TEXT];
	struct document doc = { .digest = HELLO, .text = text, .n = 5 };
	struct err e = { "" };

	assert_int_equal(document_check_digest(&doc, NULL, &e), 0);
	doc.n = 4;
	assert_int_equal(document_check_digest(&doc, NULL, &e), -EBADMSG);
	assert_int_equal(strncmp(e.msg, "what came for " HELLO " has the digest sha256:", 107), 0);
	doc.n = 5;
	assert_int_equal(digest_bytes_like("sha512:", text, 5, sha512, &e), 0);
	doc.digest = sha512;
	assert_int_equal(document_check_digest(&doc, NULL, &e), 0);
	doc.n = 0;
	doc.text = NULL;
	assert_int_equal(document_check_digest(&doc, NULL, &e), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_document_becomes_a_request),
		cmocka_unit_test(a_look_takes_no_text),
		cmocka_unit_test(pieces_are_put_together),
		cmocka_unit_test(an_answer_without_a_byte_has_no_text),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(a_failure_is_told),
		cmocka_unit_test(digests_are_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
