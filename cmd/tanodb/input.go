package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/kv"
)

// keyArgs are the arguments and flags that name a key.
type keyArgs struct {
	Bucket string `arg:"" help:"The bucket."`
	Key    string `arg:"" help:"The key."`
	nameFlags
}

// nameFlags are the flags of how buckets and keys are named.
type nameFlags struct {
	Type    string `help:"The bucket type; none: the default type." placeholder:"TYPE"`
	Encoded bool   `short:"e" help:"Bucket, key and type are percent-encoded (%00 is a zero byte), as are keys that are printed."`
}

// key is the key that the arguments name, within the limits.
func (k keyArgs) key() (kv.Key, error) {
	b, err := k.bucket(k.Bucket)
	if err != nil {
		return kv.Key{}, err
	}
	name, err := k.decode("key", k.Key)
	if err != nil {
		return kv.Key{}, err
	}
	key := kv.Key{Type: b.Type, Bucket: b.Name, Name: name}
	return key, key.Validate()
}

// bucket is the bucket that the argument names, within the limits.
func (n nameFlags) bucket(arg string) (kv.Bucket, error) {
	name, err := n.decode("bucket", arg)
	if err != nil {
		return kv.Bucket{}, err
	}
	typ, err := n.decode("bucket type", n.Type)
	if err != nil {
		return kv.Bucket{}, err
	}
	b := kv.Bucket{Type: typ, Name: name}
	return b, b.Validate()
}

// decode is the bytes that an argument stands for.
func (n nameFlags) decode(what, arg string) (string, error) {
	if !n.Encoded {
		return arg, nil
	}
	s, err := url.PathUnescape(arg)
	if err != nil {
		return "", usagef("%s %q is not percent-encoded: %v", what, arg, err)
	}
	return s, nil
}

// show is a key as a line of output: percent-encoded if that was asked for,
// otherwise as it is, or quoted as in Go if that would hide something.
func (n nameFlags) show(key string) string {
	if n.Encoded {
		return percentEncode(key)
	}
	return showText(key)
}

// showText is text as it is, or quoted as in Go if it has characters that would
// not be seen, or looks quoted itself.
func showText(s string) string {
	plain := utf8.ValidString(s) && s != "" && s[0] != '"' && s == strings.TrimSpace(s)
	if plain && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return fmt.Sprintf("%q", s)
}

// percentEncode writes every byte but letters, digits and -._~ as %XX. What it
// writes is one word for a shell, and decode reads it back.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// byteCount is a number of bytes as a flag: 1000, 64KiB, 10MB.
type byteCount int64

// UnmarshalText reads a whole number, and a unit if there is one.
func (n *byteCount) UnmarshalText(b []byte) error {
	v, err := config.ParseBytes(string(b))
	*n = byteCount(v)
	return err
}

// source says where the bytes of a value come from.
type source struct {
	Value *string `arg:"" optional:"" help:"The value; @FILE: what the file holds; -: standard input."`
	File  string  `help:"The value is what the file holds." placeholder:"FILE"`
	Raw   bool    `help:"The value is taken as it stands, also if it begins with @ or is -."`
}

// read is the value's bytes.
func (s source) read(stdin io.Reader) ([]byte, error) {
	switch {
	case s.Value == nil && s.File == "":
		return nil, usagef("no value is given: give one, or @FILE, or - for standard input")
	case s.Value != nil && s.File != "":
		return nil, usagef("a value is given twice: as an argument and with --file")
	case s.File != "":
		return readFile(s.File)
	case s.Raw:
		return []byte(*s.Value), nil
	case *s.Value == "-":
		return readValue("standard input", stdin)
	case strings.HasPrefix(*s.Value, "@"):
		return readFile((*s.Value)[1:])
	}
	return []byte(*s.Value), nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the value: %w", err)
	}
	defer f.Close()
	return readValue(name, f)
}

// readValue reads no more than a value may have.
func readValue(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, kv.MaxObject+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the value: %w", err)
	}
	if len(b) > kv.MaxObject {
		return nil, usagef("%s holds more than %d bytes, the most that a value may have", name, kv.MaxObject)
	}
	return b, nil
}
