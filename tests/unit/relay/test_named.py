"""Names of results that nobody can check yet: strangers' words are bounded and push nobody else's out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.ids import BlobRef, TaskId
from gesso_relay.named import MAX_OF_TASK, MAX_OF_TASK_BY_ONE, Named

RIGHT = BlobRef.of(b"right")


def task(number: int) -> TaskId:
    return TaskId(number.to_bytes(32, "big"))


def ref(number: int) -> BlobRef:
    return BlobRef(number.to_bytes(32, "big"))


def test_who_speaks_of_all_tasks_pushes_out_own_words_only() -> None:
    named = Named(64)
    for number in range(8):
        named.add(task(number), RIGHT, f"node {number}")
    for number in range(2_000):
        named.add(task(number), ref(number), "stranger")
    assert all(RIGHT in named.of(task(number)) for number in range(8))
    assert len(named) <= 64


def test_who_speaks_much_of_one_task_pushes_out_own_words_only() -> None:
    named = Named()
    named.add(task(1), RIGHT, "node")
    for speaker in range(MAX_OF_TASK - 1):
        for number in range(3):
            named.add(task(1), ref(10 * speaker + number), f"stranger {speaker}")
    assert named.of(task(1))[0] == RIGHT
    assert len(named) <= MAX_OF_TASK


def test_one_speaker_s_last_words_of_a_task_count() -> None:
    named = Named()
    for number in range(5):
        named.add(task(1), ref(number), "node")
    assert named.of(task(1)) == tuple(ref(number) for number in range(5 - MAX_OF_TASK_BY_ONE, 5))


def test_wrong_names_go_whoever_said_them_and_all_of_a_task_that_is_known() -> None:
    named = Named()
    for speaker in ("a", "b"):
        named.add(task(1), RIGHT, speaker)
        named.add(task(1), ref(1), speaker)
    named.add(task(2), RIGHT, "a")
    named.drop(task(1), ref(1))
    assert named.of(task(1)) == (RIGHT,)
    named.drop(task(1))
    assert (task(1) in named, named.of(task(2)), len(named)) == (False, (RIGHT,), 1)


WORDS = st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("abcd"), st.sampled_from(("add", "drop", "")))


@given(st.lists(WORDS, max_size=120))
def test_both_sides_of_the_memory_agree_and_it_is_bounded(words: list[tuple[int, int, str, str]]) -> None:
    named = Named(12)
    for number, blob, speaker, what in words:
        if what == "add":
            named.add(task(number), ref(blob), speaker)
        else:
            named.drop(task(number), ref(blob) if what == "drop" else None)
        by_task = {(one, who, name) for one, said in named._tasks.items() for who, name in said}
        by_speaker = {(one, who, name) for who, said in named._speakers.items() for one, name in said}
        assert by_task == by_speaker
        assert len(named) == len(by_task) <= 12
