package api

import (
	"encoding/json"
	"errors"
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
		*t = Text(s)
		return err
	}
	var v binary
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v.Base64 == nil {
		return errors.New(`text must be a string or {"base64":"…"}`)
	}
	*t = Text(*v.Base64)
	return nil
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
