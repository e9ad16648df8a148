// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// Rules of layouts.

// expected-error@+1 {{layout_c1: each axis is expected once, got B twice}}
func.func private @axis_twice(!kvcache.cache<?B x ?B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{layout_c1: the axes are expected to be listed as [B, N, H, D], got [B, H, N, D]; use 'order' for the memory order}}
func.func private @other_sequence(!kvcache.cache<?B x 8H x 16N x 64D x f32>)

// -----

// expected-error@+1 {{layout_c1: a split axis is expected with both parts, got only D.o without D.i}}
func.func private @half_an_axis(!kvcache.cache<?B x 16N x 64D.o x f32>)

// -----

// expected-error@+1 {{layout_c1: a split axis is expected with both parts, got only D.i without D.o}}
func.func private @other_half(!kvcache.cache<?B x 16N x 64D.i x f32>)

// -----

// expected-error@+1 {{layout_c1: an axis is expected to be whole or split, got D and D.o}}
func.func private @whole_and_split(!kvcache.cache<?B x 16N x 64D x 8D.o x 8D.i x f32>)

// -----

// expected-error@+1 {{layout_c1: at most 8 axes are expected, got 9}}
func.func private @too_many_axes(!kvcache.cache<?L x 2S x ?B.o x ?B.i x 4N.o x 4N.i x 2H.o x 2H.i x 64D x f32>)

// -----

// expected-error@+1 {{layout_c2: a cache is expected to have the axes B, N and D, got [B, D] without N}}
func.func private @no_tokens(!kvcache.cache<?B x 64D x f32>)

// -----

// expected-error@+1 {{layout_c2: a cache is expected to have the axes B, N and D, got [] without B}}
func.func private @no_axes(!kvcache.cache<f32>)

// -----

// expected-error@+1 {{layout_c3: the extent of B is expected to be between 1 and 2^40, got 0}}
func.func private @extent_zero(!kvcache.cache<0B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{layout_c3: the extent of N is expected to be between 1 and 2^40, got 1099511627777}}
func.func private @extent_too_large(!kvcache.cache<?B x 1099511627777N x 64D x f32>)

// -----

// expected-error@+1 {{layout_c4: the order is expected to be a permutation of [B, N, D], got [B, N]}}
func.func private @short_order(!kvcache.cache<?B x 16N x 64D x f32, order = [B, N]>)

// -----

// expected-error@+1 {{layout_c4: the order is expected to be a permutation of [B, N, D], got [B, N, H]}}
func.func private @order_of_other_axes(!kvcache.cache<?B x 16N x 64D x f32, order = [B, N, H]>)

// -----

// expected-error@+1 {{layout_c4: the order is expected to be a permutation of [B, N, D], got [B, N, N]}}
func.func private @order_of_one_axis_twice(!kvcache.cache<?B x 16N x 64D x f32, order = [B, N, N]>)

// -----

// expected-error@+1 {{layout_c4: the order is expected to be a permutation of the axes, got []}}
func.func private @empty_order(!kvcache.cache<?B x 16N x 64D x f32, order = []>)

// -----

// expected-error@+1 {{layout_c5: the stride of B is expected to be between 1 and 2^40, got 0}}
func.func private @stride_zero(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = 0]>)

// -----

// expected-error@+1 {{layout_c5: the stride of B is expected to be between 1 and 2^40, got -1024}}
func.func private @stride_negative(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = -1024]>)

// -----

// expected-error@+1 {{layout_c5: the stride of B is expected to be between 1 and 2^40, got 0}}
func.func private @multiple_of_zero(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 0]>)

// -----

// expected-error@+1 {{layout_c5: the stride of B is expected to be between 1 and 2^40, got 1099511627777}}
func.func private @stride_too_large(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = 1099511627777]>)

// -----

// expected-error@+1 {{layout_c5: the stride of B is expected to be at least 1024, the span of the faster axes, got 1023}}
func.func private @overlap(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = 1023]>)

// -----

// The multiple is the least that the stride of N can be.
// expected-error@+1 {{layout_c5: the stride of B is expected to be at least 4096, the span of the faster axes, got 1024}}
func.func private @overlap_run_time(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = 1024, N = ? mult 256]>)

// -----

// expected-error@+1 {{layout_c5: the axes up to N are expected to span at most 2^52 elements, got more with extent 1099511627776}}
func.func private @span(!kvcache.cache<?B x 1099511627776N x 8192D x f32>)

// -----

// expected-error@+1 {{layout_c6: the alignment is expected to be a power of two of at most 4096 bytes, got 0}}
func.func private @alignment_zero(!kvcache.cache<?B x 16N x 64D x f32, align = 0>)

// -----

// expected-error@+1 {{layout_c6: the alignment is expected to be a power of two of at most 4096 bytes, got 24}}
func.func private @alignment_not_a_power(!kvcache.cache<?B x 16N x 64D x f32, align = 24>)

// -----

// expected-error@+1 {{layout_c6: the alignment is expected to be a power of two of at most 4096 bytes, got 8192}}
func.func private @alignment_too_large(!kvcache.cache<?B x 16N x 64D x f32, align = 8192>)

// -----

// expected-error@+1 {{layout_c6: the alignment is expected to be a power of two of at most 4096 bytes, got -16}}
func.func private @alignment_negative(!kvcache.cache<?B x 16N x 64D x f32, align = -16>)

// -----

// Rules of caches.

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i8'}}
func.func private @element_type(!kvcache.cache<?B x 16N x 64D x i8>)

// -----

// expected-error@+1 {{cache_c2: the extent of N is expected to be a constant, got '?'}}
func.func private @run_time_tokens(!kvcache.cache<?B x ?N x 64D x f32>)

// -----

// expected-error@+1 {{cache_c2: the extent of D.o is expected to be a constant, got '?'}}
func.func private @run_time_channels(!kvcache.cache<?B x 16N x ?D.o x 8D.i x f32>)

// -----

// expected-error@+1 {{cache_c2: S is expected to be 1 or 2, got 3}}
func.func private @three_sides(!kvcache.cache<3S x ?B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{cache_c3: the alignment is expected to be at least 4, the size of an element, got 2}}
func.func private @alignment_of_half_an_element(!kvcache.cache<?B x 16N x 64D x f32, align = 2>)

// -----

// expected-error@+1 {{cache_c4: only H and D are expected to be split, got N.o}}
func.func private @split_tokens(!kvcache.cache<?B x 4N.o x 4N.i x 64D x f32>)

// -----

// expected-error@+1 {{cache_c4: only H and D are expected to be split, got S.o}}
func.func private @split_sides(!kvcache.cache<2S.o x 2S.i x ?B x 16N x 64D x f32>)

// -----

// Rules of slots.

// expected-error@+1 {{slots_c1: the element type is expected to be i32 or i64, got 'i16'}}
func.func private @slots_of_short_integers(!kvcache.slots<?T x i16, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{slots_c1: the element type is expected to be i32 or i64, got 'ui32'}}
func.func private @slots_of_unsigned_integers(!kvcache.slots<?T x ui32, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{slots_c1: the element type is expected to be i32 or i64, got 'f32'}}
func.func private @slots_of_floats(!kvcache.slots<?T x f32, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{slots_c2: the number of tokens is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @too_many_slots(!kvcache.slots<1099511627777T x i64, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{slots_c3: rows_per_block is expected to be between 1 and 2^40, got 0}}
func.func private @empty_blocks(!kvcache.slots<?T x i64, rows_per_block = 0, pad = none>)

// -----

// expected-error@+1 {{slots_c3: rows_per_block is expected to be between 1 and 2^40, got -1}}
func.func private @negative_blocks(!kvcache.slots<?T x i64, rows_per_block = -1, pad = none>)

// -----

// Rules of schedules.

// expected-error@+1 {{copy_schedule_c1: threads are expected to be a multiple of 32 from 32 to 1024, got 48}}
func.func private @half_a_warp() attributes {a = #kvcache.copy_schedule<threads = 48, rows = 1, streaming = false>}

// -----

// expected-error@+1 {{copy_schedule_c1: threads are expected to be a multiple of 32 from 32 to 1024, got 2048}}
func.func private @too_many_threads() attributes {a = #kvcache.copy_schedule<threads = 2048, rows = 1, streaming = false>}

// -----

// expected-error@+1 {{copy_schedule_c1: rows are expected to be from 1 to 16, got 17}}
func.func private @too_many_rows() attributes {a = #kvcache.copy_schedule<threads = 128, rows = 17, streaming = false>}

// -----

// Syntax: numbers. Without blanks, 0x16N is one hexadecimal number, and the `x`
// belongs to the letter.

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @hexadecimal(!kvcache.cache<?B x 0x16N x 64D x f32>)

// -----

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @hexadecimal_first(!kvcache.cache<0X16B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @hexadecimal_alignment(!kvcache.cache<?B x 16N x 64D x f32, align = 0x10>)

// -----

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @hexadecimal_slots(!kvcache.slots<0x10T x i64, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'Sx'}}
func.func private @no_blanks(!kvcache.cache<2Sx?B x 16N x 64D x f32>)

// -----

// -1 is what a run-time value is stored as, and must not become one.
// expected-error@+1 {{expected a number of at least 1 or '?', got -1}}
func.func private @minus_one(!kvcache.cache<-1B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{expected a number of at least 1 or '?', got -5}}
func.func private @minus_five(!kvcache.cache<?B x -5N x 64D x f32>)

// -----

// expected-error@+1 {{expected a number of at least 0 or '?', got -1}}
func.func private @minus_one_token(!kvcache.slots<-1T x i64, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @huge_extent(!kvcache.cache<9223372036854775808B x 16N x 64D x f32>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @huge_stride(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 99999999999999999999]>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @huge_alignment(!kvcache.cache<?B x 16N x 64D x f32, align = 18446744073709551616>)

// -----

// Syntax: axes.

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'Q'}}
func.func private @unknown_axis(!kvcache.cache<?Q x 16N x 64D x f32>)

// -----

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'd'}}
func.func private @small_letter(!kvcache.cache<?B x 16N x 64d x f32>)

// -----

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'D.x'}}
func.func private @unknown_part(!kvcache.cache<?B x 16N x 64D.x x f32>)

// -----

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'T'}}
func.func private @unknown_axis_in_order(!kvcache.cache<?B x 16N x 64D x f32, order = [B, T, D]>)

// -----

// expected-error@+1 {{expected 'x' between axes}}
func.func private @no_element_type(!kvcache.cache<?B x 16N x 64D>)

// -----

// Syntax: what follows the axes.

// expected-error@+1 {{expected 'order', 'strides', 'align', 'space' or 'access', got 'stride'}}
func.func private @unknown_key(!kvcache.cache<?B x 16N x 64D x f32, stride = [B = 1024]>)

// -----

// expected-error@+1 {{'order' is given twice}}
func.func private @order_twice(!kvcache.cache<?B x 16N x 64D x f32, order = [B, N, D], order = [B, N, D]>)

// -----

// expected-error@+1 {{'align' is given twice}}
func.func private @alignment_twice(!kvcache.cache<?B x 16N x 64D x f32, align = 16, align = 16>)

// -----

// expected-error@+1 {{'strides' is given twice}}
func.func private @strides_twice(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?], strides = [N = ?]>)

// -----

// expected-error@+1 {{the stride of B is given twice}}
func.func private @stride_twice(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = 1024, B = 1024]>)

// -----

// expected-error@+1 {{the cache has no axis H}}
func.func private @stride_of_no_axis(!kvcache.cache<?B x 16N x 64D x f32, strides = [H = 64]>)

// -----

// expected-error@+1 {{expected space 'device' or 'host', got 'gpu'}}
func.func private @unknown_space(!kvcache.cache<?B x 16N x 64D x f32, space = gpu>)

// -----

// expected-error@+1 {{expected 'T' after the number of tokens}}
func.func private @slots_without_tokens(!kvcache.slots<?B x i64, rows_per_block = 16, pad = none>)

// -----

// expected-error@+1 {{expected 'rows_per_block'}}
func.func private @slots_without_block_size(!kvcache.slots<?T x i64, pad = none>)

// -----

// expected-error@+1 {{expected 'pad'}}
func.func private @slots_with_unknown_key(!kvcache.slots<?T x i64, rows_per_block = 16, padding = none>)

// -----

// expected-error@+1 {{expected pad 'skip_negative', 'skip_out_of_range', 'sink(...)' or 'none', got 'skip'}}
func.func private @unknown_padding(!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip>)

// -----

// expected-error @+1 {{expected axes in brackets, or one of nhd, hnd, paired_nhd, paired_hnd, cross_layer_nhd, cross_layer_hnd, LBHNC, LBNHC, LHBNC, BLHNC, BLNHC, BHLNC, x_packed_key, x_packed_value, got 'nhwc'}}
func.func private @unknown_order(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = nhwc>)

// -----

// expected-error @+1 {{the order 'nhd' does not place all axes of the cache}}
func.func private @nhd_of_layers(!kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = nhd>)

// -----

// expected-error @+1 {{expected access 'write' or 'read', got 'none'}}
func.func private @unknown_access(!kvcache.cache<?B x 16N x 128D x bf16, access = none>)
