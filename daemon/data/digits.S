/* The packed digits (see digits.LICENSE), linked into the program as they are. */
    .section .rodata
    .balign 16
    .globl data_digits_begin
    .globl data_digits_end
    .hidden data_digits_begin
    .hidden data_digits_end
data_digits_begin:
    .incbin "data/digits.bin.gz"
data_digits_end:
    .section .note.GNU-stack, "", %progbits
