// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// expected-error@+1 {{expected a number of at least 0 or '?', got -1}}
func.func private @negative_sink(!kvcache.slots<?T x i64, rows_per_block = 16, pad = sink(-1)>)

// -----

// expected-error@+1 {{slots_c4: the sink is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @sink_too_large(!kvcache.slots<?T x i64, rows_per_block = 16, pad = sink(1099511627777)>)

// -----

// expected-error@+1 {{expected '('}}
func.func private @sink_without_number(!kvcache.slots<?T x i64, rows_per_block = 16, pad = sink>)

// -----

// expected-error@+1 {{expected integer value}}
func.func private @sink_of_nothing(!kvcache.slots<?T x i64, rows_per_block = 16, pad = sink()>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @huge_sink(!kvcache.slots<?T x i64, rows_per_block = 16, pad = sink(9223372036854775808)>)

// -----

// expected-error@+1 {{expected '>'}}
func.func private @number_of_another_padding(!kvcache.slots<?T x i64, rows_per_block = 16, pad = none(0)>)

// -----

// expected-error@+1 {{block_table_c1: the element type is expected to be i32 or i64, got 'i16'}}
func.func private @table_of_short_numbers(!kvcache.block_table<?R x ?M x i16, tokens = 16>)

// -----

// expected-error@+1 {{block_table_c1: the element type is expected to be i32 or i64, got 'ui64'}}
func.func private @table_of_unsigned_numbers(!kvcache.block_table<?R x ?M x ui64, tokens = 16>)

// -----

// expected-error@+1 {{block_table_c1: the element type is expected to be i32 or i64, got 'f32'}}
func.func private @table_of_floats(!kvcache.block_table<?R x ?M x f32, tokens = 16>)

// -----

// expected-error@+1 {{block_table_c2: the number of requests is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @table_of_too_many_requests(!kvcache.block_table<1099511627777R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{block_table_c2: the number of blocks is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @table_of_too_many_blocks(!kvcache.block_table<?R x 1099511627777M x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected a number of at least 0 or '?', got -1}}
func.func private @table_of_negative_requests(!kvcache.block_table<-1R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @table_of_huge_blocks(!kvcache.block_table<?R x 9223372036854775808M x i32, tokens = 16>)

// -----

// expected-error@+1 {{block_table_c3: 'tokens' is expected to be between 1 and 2^40, got 0}}
func.func private @table_of_empty_blocks(!kvcache.block_table<?R x ?M x i32, tokens = 0>)

// -----

// expected-error@+1 {{block_table_c3: 'tokens' is expected to be between 1 and 2^40, got -1}}
func.func private @table_of_negative_blocks(!kvcache.block_table<?R x ?M x i32, tokens = -1>)

// -----

// expected-error@+1 {{block_table_c3: 'tokens' is expected to be between 1 and 2^40, got 1099511627777}}
func.func private @table_of_blocks_too_large(!kvcache.block_table<?R x ?M x i32, tokens = 1099511627777>)

// -----

// expected-error@+1 {{expected 'R' after the number of requests}}
func.func private @table_of_other_letters(!kvcache.block_table<?T x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected integer value}}
func.func private @table_without_blocks(!kvcache.block_table<?R x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected ','}}
func.func private @table_without_tokens(!kvcache.block_table<?R x ?M x i32>)

// -----

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @table_of_hexadecimal_requests(!kvcache.block_table<0x4R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{batch_c1: the element type is expected to be i32 or i64, got 'i16'}}
func.func private @batch_of_short_numbers(!kvcache.batch<?R x ?M x i16, tokens = 16>)

// -----

// expected-error@+1 {{batch_c1: the element type is expected to be i32 or i64, got 'ui64'}}
func.func private @batch_of_unsigned_numbers(!kvcache.batch<?R x ?M x ui64, tokens = 16>)

// -----

// expected-error@+1 {{batch_c1: the element type is expected to be i32 or i64, got 'f32'}}
func.func private @batch_of_floats(!kvcache.batch<?R x ?M x f32, tokens = 16>)

// -----

// expected-error@+1 {{batch_c2: the number of requests is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @batch_of_too_many_requests(!kvcache.batch<1099511627777R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{batch_c2: the number of blocks is expected to be between 0 and 2^40, got 1099511627777}}
func.func private @batch_of_too_many_blocks(!kvcache.batch<?R x 1099511627777M x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected a number of at least 0 or '?', got -1}}
func.func private @batch_of_negative_requests(!kvcache.batch<-1R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @batch_of_huge_blocks(!kvcache.batch<?R x 9223372036854775808M x i32, tokens = 16>)

// -----

// expected-error@+1 {{batch_c3: 'tokens' is expected to be between 1 and 2^40, got 0}}
func.func private @batch_of_empty_blocks(!kvcache.batch<?R x ?M x i32, tokens = 0>)

// -----

// expected-error@+1 {{batch_c3: 'tokens' is expected to be between 1 and 2^40, got -1}}
func.func private @batch_of_negative_blocks(!kvcache.batch<?R x ?M x i32, tokens = -1>)

// -----

// expected-error@+1 {{batch_c3: 'tokens' is expected to be between 1 and 2^40, got 1099511627777}}
func.func private @batch_of_blocks_too_large(!kvcache.batch<?R x ?M x i32, tokens = 1099511627777>)

// -----

// expected-error@+1 {{expected 'R' after the number of requests}}
func.func private @batch_of_other_letters(!kvcache.batch<?T x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected integer value}}
func.func private @batch_without_blocks(!kvcache.batch<?R x i32, tokens = 16>)

// -----

// expected-error@+1 {{expected ','}}
func.func private @batch_without_tokens(!kvcache.batch<?R x ?M x i32>)

// -----

// expected-error@+1 {{expected a decimal number; separate axes with spaces, as in '2S x ?B x 16N x 8H x 128D x bf16'}}
func.func private @batch_of_hexadecimal_requests(!kvcache.batch<0x4R x ?M x i32, tokens = 16>)

// -----

// expected-error@+1 {{batch_c1: the type of positions is expected to be i32 or i64, got 'f32'}}
func.func private @positions_of_floats(!kvcache.batch<?R x ?M x i32, tokens = 16, positions = f32>)

// -----

// expected-error@+1 {{batch_c1: the type of positions is expected to be i32 or i64, got 'i16'}}
func.func private @positions_of_short_numbers(!kvcache.batch<?R x ?M x i32, tokens = 16, positions = i16>)

// -----

// expected-error@+1 {{expected '>'}}
func.func private @positions_of_a_table(!kvcache.block_table<?R x ?M x i32, tokens = 16, positions = i32>)

// -----

// expected-error@+1 {{expected 'positions'}}
func.func private @unknown_key_of_a_batch(!kvcache.batch<?R x ?M x i32, tokens = 16, rows = i32>)
