package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// A line that cannot be taken as it stands is refused in words of the line, and the others are read.
func TestLinesThatAreWrong(t *testing.T) {
	for line, want := range map[string]string{
		"not json":                           "this is not JSON: ",
		`[1,2]`:                              "a line must be a JSON object",
		`{"bucket":"b","key":"k"}`:           "it has no value",
		`{"bucket":"b","key":"k","value":5}`: `a text must be a string of UTF-8, or {"base64":"…"}`,
		`{"bucket":"b","key":"k","value":{"base64":"!!"}}`:                  `a text must be a string of UTF-8`,
		"{\"bucket\":\"b\",\"key\":\"k\",\"value\":\"a\xff\"}":              `a text must be a string of UTF-8`,
		"{\"bucket\":\"b\",\"key\":\"k\xff\",\"value\":\"a\"}":              `a text must be a string of UTF-8`,
		`{"bucket":"b","key":"\ud800","value":"a"}`:                         `a text must be a string of UTF-8`,
		`{"bucket":"b","key":"k","value":"a","nope":1}`:                     `there is no field "nope"`,
		`{"bucket":"b","key":"k","value":"a","expires":"soon"}`:             `"soon" is no time, such as 2027-01-31T12:00:00Z`,
		`{"bucket":"b","key":"k","value":"a","sibling":"one"}`:              "sibling cannot be a string",
		`{"bucket":"b","key":"k","value":"a","type":"t\udfff"}`:             "a text must be a string of UTF-8",
		"{\"bucket\":\"b\",\"key\":\"k\",\"value\":\"\",\"type\":\"\xff\"}": "a text must be a string of UTF-8",
		`{"bucket":"b","key":"k","value":"a"} 1`:                            "there is something after the value",
	} {
		r, err := newLineReader(strings.NewReader(line+"\n"+`{"bucket":"b","key":"\ufffd\ud83d\ude00","value":""}`), formatJSON)
		if err != nil {
			t.Fatal(err)
		}
		_, at, err := r.read()
		var bad *lineError
		if at != 1 || !errors.As(err, &bad) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: line %d, %v; want %s", line, at, err, want)
		}
		x, at, err := r.read()
		if at != 2 || err != nil || x.Key != "\ufffd😀" || x.Value != "" {
			t.Errorf("%s: then line %d is %+v, %v", line, at, x, err)
		}
		if _, _, err := r.read(); err != io.EOF {
			t.Errorf("%s: then %v", line, err)
		}
	}
}

// A table from elsewhere has the columns that it needs, in its own order.
func TestColumns(t *testing.T) {
	for text, want := range map[string]string{
		"key,value\nk,v\n":                      "",
		"value,bucket,key\nv,b,k\n":             "b",
		"key,value,base64\naw==,dg==,key value": "",
	} {
		r, err := newLineReader(strings.NewReader(text), formatCSV)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		x, line, err := r.read()
		if err != nil || line != 2 || string(x.Bucket) != want || x.Key != "k" || x.Value != "v" || x.Type != "" || !x.Expires.IsZero() {
			t.Errorf("%q: line %d is %+v, %v", text, line, x, err)
		}
	}
	for text, want := range map[string]string{
		"":                  "the first line must name the columns",
		"key,valu\n":        `there is no column "valu": there are type, bucket, key, value, base64`,
		"key,value,key\n":   `the column "key" is there twice`,
		"bucket,key\n":      `there must be a column "value"`,
		"bucket,value\n":    `there must be a column "key"`,
		"\ufeffkey,value\n": "",
	} {
		_, err := newLineReader(strings.NewReader(text), formatCSV)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}
