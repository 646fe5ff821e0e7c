package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// Text is bytes that are text nearly always: a key, a name of metadata. In JSON
// it is a string; bytes that are not UTF-8, which a JSON string cannot hold, are
// {"base64":"…"}.
type Text string

// binary is the form of a Text that is not UTF-8.
type binary struct {
	Base64 *[]byte `json:"base64"`
}

// MarshalJSON writes a string or {"base64":"…"}.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	b := []byte(t)
	return json.Marshal(binary{&b})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		if err == nil && !faithful(b, s) {
			return errNoText
		}
		*t = Text(s)
		return err
	}
	var v binary
	if err := json.Unmarshal(b, &v); err != nil || v.Base64 == nil {
		return errNoText
	}
	*t = Text(*v.Base64)
	return nil
}

var errNoText = errors.New(`a text must be a string of UTF-8, or {"base64":"…"}`)

// faithful reports whether a string is what its JSON says. What is not UTF-8, and half of a
// surrogate pair, package json replaces by U+FFFD without a word: another name, or another
// value, than what was sent.
func faithful(quoted []byte, s string) bool {
	const replacement = "\ufffd"
	if !utf8.Valid(quoted) {
		return false
	}
	if !strings.Contains(s, replacement) {
		return true
	}
	meant := bytes.Count(quoted, []byte(replacement)) + bytes.Count(bytes.ToLower(quoted), []byte(`\ufffd`))
	return strings.Count(s, replacement) <= meant
}

// Texts converts strings. The result is never nil, so that it is [] in JSON.
func Texts(ss []string) []Text {
	out := make([]Text, len(ss))
	for i, s := range ss {
		out[i] = Text(s)
	}
	return out
}

// Strings converts texts back.
func Strings(ts []Text) []string {
	var out []string
	for _, t := range ts {
		out = append(out, string(t))
	}
	return out
}
