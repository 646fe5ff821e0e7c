package riakpb

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestGeneratedCodeIsCurrent compares the fields that the generated code knows
// with those that the .proto files declare, line by line. It needs no protoc.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	for name, file := range map[string]protoreflect.FileDescriptor{
		"riak.proto": File_riak_proto, "riak_kv.proto": File_riak_kv_proto, "riak_dt.proto": File_riak_dt_proto, "tano.proto": File_tano_proto,
	} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want := declared(string(source))
		got := map[string]bool{}
		for i := range file.Messages().Len() {
			fieldsOf(file.Messages().Get(i), got)
		}
		for line := range want {
			if !got[line] {
				t.Errorf("%s declares %q, and the generated code does not: run make generate", name, line)
			}
		}
		for line := range got {
			if !want[line] {
				t.Errorf("the generated code has %q, and %s does not: run make generate", line, name)
			}
		}
	}
}

var (
	message = regexp.MustCompile(`^message (\w+) \{$`)
	field   = regexp.MustCompile(`^(required|optional|repeated) (\w+) (\w+) = (\d+)( \[.*\])?;$`)
	value   = regexp.MustCompile(`^(\w+) = (\d+);$`)
)

// declared are the fields and the values of enumerations in a .proto file, each
// with its message.
func declared(source string) map[string]bool {
	all := map[string]bool{}
	in := ""
	for line := range strings.Lines(source) {
		line = strings.TrimSpace(line)
		if m := message.FindStringSubmatch(line); m != nil {
			in = m[1]
		}
		if m := field.FindStringSubmatch(line); m != nil {
			all[strings.Join(append([]string{in}, m[1:5]...), " ")] = true
		}
		if m := value.FindStringSubmatch(line); m != nil {
			all[in+" "+m[1]+" "+m[2]] = true
		}
	}
	return all
}

// fieldsOf are the same of the generated code.
func fieldsOf(m protoreflect.MessageDescriptor, all map[string]bool) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		kind := f.Kind().String()
		if f.Message() != nil {
			kind = string(f.Message().Name())
		}
		if f.Enum() != nil {
			kind = string(f.Enum().Name())
		}
		all[fmt.Sprintf("%s %s %s %s %d", m.Name(), f.Cardinality(), kind, f.Name(), f.Number())] = true
	}
	for i := range m.Enums().Len() {
		values := m.Enums().Get(i).Values()
		for j := range values.Len() {
			all[fmt.Sprintf("%s %s %d", m.Name(), values.Get(j).Name(), values.Get(j).Number())] = true
		}
	}
}
