package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// exchanged is one value as a line of an export. Of a key with several values each has a
// line, and the lines stand together.
type exchanged struct {
	Type            api.Text   `json:"type,omitempty"`
	Bucket          api.Text   `json:"bucket"`
	Key             api.Text   `json:"key"`
	Value           api.Text   `json:"value"`
	ContentType     api.Text   `json:"content_type,omitempty"`
	Charset         api.Text   `json:"charset,omitempty"`
	ContentEncoding api.Text   `json:"content_encoding,omitempty"`
	Meta            []api.Pair `json:"meta,omitempty"`
	Indexes         []api.Pair `json:"indexes,omitempty"`
	Expires         time.Time  `json:"expires,omitzero"`
	Sibling         int        `json:"sibling,omitempty"` // from 1 on, of a key with several values
}

// name is the key of the line.
func (x *exchanged) name() kv.Key {
	return kv.Key{Type: kv.PlainType(string(x.Type)), Bucket: string(x.Bucket), Name: string(x.Key)}
}

// exchangedOf are the lines of an object. They are in the order of the values, so that two
// clusters with the same values have the same lines.
func exchangedOf(k kv.Key, o api.Object) []exchanged {
	var lines []exchanged
	values := slices.SortedStableFunc(slices.Values(o.Values), func(a, b api.Value) int { return bytes.Compare(a.Data, b.Data) })
	for i, v := range values {
		x := exchanged{
			Type: api.Text(k.Type), Bucket: api.Text(k.Bucket), Key: api.Text(k.Name), Value: api.Text(v.Data),
			ContentType: v.ContentType, Charset: v.Charset, ContentEncoding: v.ContentEncoding, Meta: v.Meta, Indexes: v.Indexes, Expires: v.Expires,
		}
		if len(o.Values) > 1 {
			x.Sibling = i + 1
		}
		lines = append(lines, x)
	}
	return lines
}

// lineWriter writes lines in a format.
type lineWriter interface {
	write(exchanged) error
	flush() error
}

// lineReader reads them. An error that is a *lineError is of one line, and the next can be
// read; io.EOF says that there are no more.
type lineReader interface {
	read() (exchanged, int, error)
}

// lineError is what is wrong with a line.
type lineError struct{ err error }

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// The formats.
const (
	formatJSON = "jsonl"
	formatCSV  = "csv"

	// maxLine is the longest line: the largest value in base64, and room for the rest.
	maxLine = 2*kv.MaxObject + 1<<20
)

func newLineWriter(w io.Writer, format string, fresh bool) (lineWriter, error) {
	buffered := bufio.NewWriter(w)
	if format == formatJSON {
		return &jsonWriter{buffered}, nil
	}
	c := &csvWriter{csv.NewWriter(buffered), buffered}
	if !fresh {
		return c, nil
	}
	return c, c.csv.Write(csvColumns)
}

func newLineReader(r io.Reader, format string) (lineReader, error) {
	if format == formatJSON {
		return &jsonReader{in: bufio.NewReaderSize(r, 64<<10)}, nil
	}
	c := csv.NewReader(r)
	c.ReuseRecord = true
	head, err := c.Read()
	if err == nil {
		head[0] = strings.TrimPrefix(head[0], "\ufeff") // some editors begin files with it
		err = checkColumns(head)
	}
	if err != nil {
		return nil, fmt.Errorf("the first line must name the columns: %w", err)
	}
	return &csvReader{c, slices.Clone(head)}, nil
}

// checkColumns refuses a table in which not every line can be a value.
func checkColumns(head []string) error {
	seen := map[string]bool{}
	for _, column := range head {
		if !slices.Contains(csvColumns, column) {
			return fmt.Errorf("there is no column %q: there are %s", column, strings.Join(csvColumns, ", "))
		}
		if seen[column] {
			return fmt.Errorf("the column %q is there twice", column)
		}
		seen[column] = true
	}
	for _, column := range []string{"key", "value"} {
		if !seen[column] {
			return fmt.Errorf("there must be a column %q", column)
		}
	}
	return nil
}

type jsonWriter struct{ w *bufio.Writer }

func (j *jsonWriter) write(x exchanged) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = j.w.Write(append(b, '\n'))
	return err
}

func (j *jsonWriter) flush() error { return j.w.Flush() }

type jsonReader struct {
	in   *bufio.Reader
	line int
}

func (j *jsonReader) read() (exchanged, int, error) {
	for {
		j.line++
		b, err := j.next()
		if err != nil {
			return exchanged{}, j.line, err
		}
		if b = bytes.TrimSpace(b); len(b) == 0 {
			continue
		}
		x, err := parseLine(b)
		if err != nil {
			return x, j.line, &lineError{err}
		}
		return x, j.line, nil
	}
}

// parseLine reads what jsonWriter has written.
func parseLine(b []byte) (exchanged, error) {
	var x struct {
		exchanged
		Value *api.Text `json:"value"` // a line without one would empty its key
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return exchanged{}, explainLine(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return exchanged{}, errors.New("there is something after the value")
	}
	if x.Value == nil {
		return exchanged{}, errors.New("it has no value")
	}
	x.exchanged.Value = *x.Value
	return x.exchanged, nil
}

// explainLine says what is wrong with a line in its own words, and not in those of Go.
func explainLine(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var moment *time.ParseError
	const unknown = "json: unknown field "
	switch {
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("this is not JSON: %w", err)
	case errors.As(err, &kind) && kind.Field == "":
		return errors.New("a line must be a JSON object")
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a %s", kind.Field, kind.Value)
	case errors.As(err, &moment):
		return fmt.Errorf("%q is no time, such as 2027-01-31T12:00:00Z", strings.Trim(moment.Value, `"`))
	case strings.HasPrefix(err.Error(), unknown):
		return errors.New("there is no field " + strings.TrimPrefix(err.Error(), unknown))
	}
	return err
}

// next is the next line. Of one that is too long the rest is passed over.
func (j *jsonReader) next() ([]byte, error) {
	var line []byte
	for {
		part, err := j.in.ReadSlice('\n')
		if len(line) <= maxLine {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(line) > 0, err == nil:
			if len(line) > maxLine {
				return nil, &lineError{fmt.Errorf("it is longer than %d bytes", maxLine)}
			}
			return line, nil
		}
		return nil, err
	}
}

// csvColumns are the columns. Those that base64 names, parted by spaces, are in base64: what
// is not UTF-8, or has a carriage return, which CSV does not keep. Meta and indexes are JSON
// as in a JSON line.
var csvColumns = []string{"type", "bucket", "key", "value", "base64", "content_type", "charset", "content_encoding", "expires", "meta", "indexes", "sibling"}

type csvWriter struct {
	csv *csv.Writer
	w   *bufio.Writer
}

func (c *csvWriter) write(x exchanged) error {
	var coded []string
	text := func(column, s string) string {
		if utf8.ValidString(s) && !strings.Contains(s, "\r") {
			return s
		}
		coded = append(coded, column)
		return base64.StdEncoding.EncodeToString([]byte(s))
	}
	row := []string{string(x.Type), text("bucket", string(x.Bucket)), text("key", string(x.Key)), text("value", string(x.Value))}
	kind, charset, encoding := text("content_type", string(x.ContentType)), text("charset", string(x.Charset)), text("content_encoding", string(x.ContentEncoding))
	row = append(row, strings.Join(coded, " "), kind, charset, encoding)
	expires, sibling := "", ""
	if !x.Expires.IsZero() {
		expires = x.Expires.UTC().Format(time.RFC3339Nano)
	}
	if x.Sibling > 0 {
		sibling = strconv.Itoa(x.Sibling)
	}
	meta, err := jsonCell(x.Meta)
	indexes, err2 := jsonCell(x.Indexes)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	return c.csv.Write(append(row, expires, meta, indexes, sibling))
}

// jsonCell is a list as JSON; nothing of an empty one.
func jsonCell(ps []api.Pair) (string, error) {
	if len(ps) == 0 {
		return "", nil
	}
	b, err := json.Marshal(ps)
	return string(b), err
}

func (c *csvWriter) flush() error {
	c.csv.Flush()
	return errors.Join(c.csv.Error(), c.w.Flush())
}

type csvReader struct {
	csv     *csv.Reader
	columns []string // some of csvColumns
}

func (c *csvReader) read() (exchanged, int, error) {
	row, err := c.csv.Read()
	line := 0
	if len(row) > 0 {
		line, _ = c.csv.FieldPos(0)
	}
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		return exchanged{}, bad.StartLine, &lineError{bad.Err}
	}
	if err != nil {
		return exchanged{}, line, err
	}
	x, err := parseRow(c.columns, row)
	if err != nil {
		return x, line, &lineError{err}
	}
	return x, line, nil
}

// parseRow reads what csvWriter has written.
func parseRow(columns, row []string) (x exchanged, err error) {
	cell := make(map[string]string, len(row))
	for i, column := range columns {
		cell[column] = strings.Clone(row[i])
	}
	for column := range strings.FieldsSeq(cell["base64"]) {
		b, err := base64.StdEncoding.DecodeString(cell[column])
		if _, known := cell[column]; !known || err != nil {
			return x, fmt.Errorf("column %q is not in base64", column)
		}
		cell[column] = string(b)
	}
	x = exchanged{
		Type: api.Text(cell["type"]), Bucket: api.Text(cell["bucket"]), Key: api.Text(cell["key"]), Value: api.Text(cell["value"]),
		ContentType: api.Text(cell["content_type"]), Charset: api.Text(cell["charset"]), ContentEncoding: api.Text(cell["content_encoding"]),
	}
	for column, into := range map[string]any{"meta": &x.Meta, "indexes": &x.Indexes} {
		if cell[column] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(cell[column]), into); err != nil {
			return x, fmt.Errorf("column %s: %w", column, err)
		}
	}
	if s := cell["expires"]; s != "" {
		if x.Expires, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return x, fmt.Errorf("column expires: %w", err)
		}
	}
	if s := cell["sibling"]; s != "" {
		if x.Sibling, err = strconv.Atoi(s); err != nil {
			return x, fmt.Errorf("column sibling: %w", err)
		}
	}
	return x, nil
}
