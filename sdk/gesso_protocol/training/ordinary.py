"""What gesso-tiny is ordinarily asked for: its pictures of these stay as they are while a LoRA is trained on it.

Captions of its world, half of them of two things, with nearly all of its words; none is of what it is scored on.
"""

from __future__ import annotations

ORDINARY_TINY: tuple[str, ...] = (
    "a picture of a snowy little triangle on the left of a rose square, yellow background",
    "a huge plus sign, black left of a pink little pyramid with a purple background",
    "a small orange square in the bottom left on a red background",
    "an image of an emerald small block to the right side against a blue backdrop",
    "a red cross left of a small pink triangle on a yellow background",
    "draw a golden square, green background",
    "show me a giant white dot below a huge purple ring on a blue canvas",
    "right, a white cross on a black background",
    "show me snowy background, on top, a golden triangle",
    "a navy square, tiny to the right of an orange triangle, large against a yellow backdrop",
    "a yellow cross on a purple background",
    "paint a little blue donut right with a violet background",
    "an orange tiny ring, in the top left with a violet background",
    "a big green ring above an orange triangle on a blue background",
    "draw circle that is tiny and black beside a golden little ring on emerald",
    "draw a golden box, small over a white pyramid in front of a navy background",
    "there is a red background with a pink pyramid underneath a ring that is tiny and white",
    "an image of a large snowy cross over rose box against a navy backdrop",
    "a picture of a small hoop, orange on top of violet square on a pink canvas",
    "blue background, a big ball in golden",
    "draw a violet pyramid in the middle on a rose background",
    "show me a plus in navy beneath a donut in black on a red background",
    "draw a box that is large and violet in the lower part on a dark canvas",
    "a yellow triangle next to a small white triangle on a red background",
    "paint a little white square on top of a little square in orange on a yellow background",
    "a big black ring in the top left on a red background",
    "a drawing of on a blue background, golden ring, big beside a green ring",
    "a small yellow circle in the centre on a blue background",
    "paint a tiny green triangle by a huge donut, yellow, background navy",
    "a big red square above a small blue cross on a yellow background",
    "a blue ring on a black background",
    "an image of a scarlet background with a green block, large left of a purple plus sign",
    "paint a blue triangle underneath a big yellow plus with a white background",
    "paint on a golden background, a red square, center",
    "on a rose background, a large blue dot, bottom left",
    "a drawing of yellow background, in the upper right corner, a small crimson ring",
    "a picture of a big cross, orange in the center on a emerald canvas",
    "rose background, a snowy box, giant at the top left",
    "on a pink background, a cross that is little and violet to the right of a plus sign in golden",
    "a picture of a purple background with a red ball left of a white cross, giant",
)
