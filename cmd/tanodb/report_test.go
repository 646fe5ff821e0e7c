package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// A script reads one document from standard output, whatever comes of the command.
func TestOneDocument(t *testing.T) {
	failure := errors.New("two lines failed")
	for name, c := range map[string]struct {
		print bool
		want  string
	}{
		"of a command that has printed what it did": {true, `{"failed":2}`},
		"of one that has not":                       {false, `{"error":"two lines failed"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, said bytes.Buffer
			a := &app{json: true, stdout: &out, stderr: &said}
			if c.print {
				if err := a.print(&imported{Failed: 2}); err != nil {
					t.Fatal(err)
				}
			}
			a.report(failure)
			d := json.NewDecoder(&out)
			var got map[string]any
			if err := d.Decode(&got); err != nil {
				t.Fatal(err)
			}
			for key, value := range got {
				if value == 0.0 {
					delete(got, key)
				}
			}
			if b, _ := json.Marshal(got); string(b) != c.want {
				t.Errorf("got %s; want %s", b, c.want)
			}
			if err := d.Decode(&got); err != io.EOF {
				t.Errorf("there is a second document: %v, %v", got, err)
			}
			if !strings.Contains(said.String(), failure.Error()) {
				t.Errorf("standard error has %q", said.String())
			}
		})
	}
}
