"""Texts that JSON parsers read differently, or not at all: the folder of a suite, or where there is none, a list of our own.

As in JSONTestSuite (nst/JSONTestSuite, test_parsing), a name begins with `y_` where each parser has to take the text, with `n_`
where none may, and with `i_` where the standard leaves it open.
"""

from pathlib import Path

from tests.support.bodies import NOT_PARSEABLE

OWN = {
    "y_null": b"null",
    "y_number": b"-0.1e+1",
    "y_number_zero_exponent": b"0e00",
    "y_string_escapes": rb'"\"\\\/\b\f\n\r\t\u00e9"',
    "y_string_pair_of_surrogates": rb'"\ud83d\ude00"',
    "y_string_noncharacter": b'"\xef\xbf\xbf"',
    "y_string_delete": b'"a\x7fb"',
    "y_array_of_all": b' [ null , true , 1.5 , "" , {} , [ ] ] ',
    "y_object_empty_key": b'{"":0}',
    "y_string_right_to_left": '"\u202e1"'.encode(),
    "i_number_huge": b"1e9999",
    "i_number_minus_huge": b"-1e+999999999999",
    "i_number_tiny": b"1e-99999",
    "i_number_of_400_digits": b"1" * 400,
    "i_number_of_400_decimals": b"0." + b"3" * 400,
    "i_number_beyond_64_bits": b"18446744073709551616",
    "i_string_lone_high_surrogate": rb'"\ud800"',
    "i_string_lone_low_surrogate": rb'"\udc00x"',
    "i_string_surrogates_in_utf_8": b'"\xed\xa0\x80"',
    "i_string_escaped_nul": rb'"a\u0000b"',
    "i_object_same_key_twice": b'{"a":1,"a":2}',
    "i_object_prototype": b'{"__proto__":{"a":1},"constructor":null}',
    "i_array_500_deep": b"[" * 500 + b"]" * 500,
    "i_object_500_deep": b'{"a":' * 500 + b"1" + b"}" * 500,
    "n_array_100000_open": b"[" * 100_000,
    "n_array_trailing_comma": b"[1,]",
    "n_array_two_commas": b"[1,,2]",
    "n_array_closed_twice": b"[1]]",
    "n_array_colon": b'["a":1]',
    "n_object_trailing_comma": b'{"a":1,}',
    "n_object_bare_key": b"{a:1}",
    "n_object_number_key": b"{1:1}",
    "n_object_no_colon": b'{"a" 1}',
    "n_object_no_value": b'{"a":}',
    "n_object_cut": b'{"a":1',
    "n_number_nan": b"NaN",
    "n_number_minus_infinity": b"-Infinity",
    "n_number_hexadecimal": b"0x1F",
    "n_number_octal": b"012",
    "n_number_plus": b"+1",
    "n_number_point_first": b".5",
    "n_number_point_last": b"5.",
    "n_number_exponent_cut": b"1e",
    "n_number_two_points": b"1.2.3",
    "n_number_underscore": b"1_000",
    "n_number_minus_alone": b"-",
    "n_number_fullwidth": "１".encode(),
    "n_string_single_quotes": b"'a'",
    "n_string_raw_tab": b'"a\tb"',
    "n_string_raw_nul": b'"a\x00b"',
    "n_string_raw_newline": b'"a\nb"',
    "n_string_bad_escape": rb'"\x41"',
    "n_string_escape_cut": rb'"\u12"',
    "n_string_open": b'"abc',
    "n_string_latin_1": b'"caf\xe9"',
    "n_string_overlong": b'"\xc0\xaf"',
    "n_string_beyond_unicode": b'"\xf4\x90\x80\x80"',
    "n_string_cut_character": b'"\xe2\x82"',
    "n_word_python": b"None",
    "n_word_capital": b"True",
    "n_word_cut": b"nul",
    "n_structure_nothing": b"",
    "n_structure_blank": b" ",
    "n_structure_comment": b"1 /* one */",
    "n_structure_line_comment": b"1 // one",
    "n_structure_no_break_space": b"\xc2\xa01",
    "n_structure_form_feed": b"\x0c1",
    "n_structure_byte_order_mark": b"\xef\xbb\xbf1",
    "n_structure_utf_16": '{"a":1}'.encode("utf-16"),
    "n_structure_two_values": b"1 2",
    "n_structure_nul": b"\x00",
}


def texts_in(folder: Path | None) -> dict[str, bytes]:
    """The texts by name."""
    if folder is None:
        return {**OWN, **{f"i_{name}": text for name, text in NOT_PARSEABLE.items()}}
    found = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.json"))}
    assert found, f"{folder} holds no .json file. Name the folder test_parsing of a checkout of nst/JSONTestSuite."
    return found
