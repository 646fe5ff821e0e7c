package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tanodb/tanodb/internal/config"
)

// serverFlags are the options of a server as flags. They are made from the table of
// package config, which also says what the environment and the file give: nothing here
// knows of a single option.
type serverFlags struct {
	Config string `help:"A file of options; see tanodb config. None: no file." placeholder:"FILE" env:"TANODB_CONFIG"`
	kong.Plugins
}

// optionFlag is a flag with a value, and switchFlag one that may be without.
type (
	optionFlag struct{ texts []string }
	switchFlag struct{ optionFlag }
)

// Decode implements kong.MapperValue.
func (f *optionFlag) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	f.texts = append(f.texts, text)
	return nil
}

// IsBool implements kong.BoolMapperValue.
func (*switchFlag) IsBool() bool { return true }

// Decode implements kong.MapperValue: --pprof and --pprof=false.
func (f *switchFlag) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		return f.optionFlag.Decode(ctx)
	}
	f.texts = append(f.texts, "true")
	return nil
}

// init makes the flags.
func (s *serverFlags) init() {
	fields := make([]reflect.StructField, len(config.Options))
	for i, o := range config.Options {
		f := reflect.StructField{Name: "Option" + strconv.Itoa(i), Type: reflect.TypeFor[optionFlag]()}
		tag := fmt.Sprintf("name:%q help:%s", o.Name, strconv.Quote(o.FlagHelp()))
		if o.IsBool() {
			f.Type = reflect.TypeFor[switchFlag]()
		} else {
			tag += " placeholder:" + strconv.Quote(o.Sign)
		}
		f.Tag = reflect.StructTag(tag)
		fields[i] = f
	}
	s.Plugins = kong.Plugins{reflect.New(reflect.StructOf(fields)).Interface()}
}

// given are the flags that were given. Of one that was given several times the last
// counts, and of a list all do.
func (s *serverFlags) given() []config.Given {
	var all []config.Given
	v := reflect.ValueOf(s.Plugins[0]).Elem()
	for i, o := range config.Options {
		var texts []string
		switch f := v.Field(i).Addr().Interface().(type) {
		case *optionFlag:
			texts = f.texts
		case *switchFlag:
			texts = f.texts
		}
		switch {
		case len(texts) == 0:
		case o.IsList():
			all = append(all, config.Given{Name: o.Name, Text: strings.Join(texts, ",")})
		default:
			all = append(all, config.Given{Name: o.Name, Text: texts[len(texts)-1]})
		}
	}
	return all
}

// load makes the configuration of the flags, the environment and the file.
func (s *serverFlags) load() (*config.Config, error) {
	in := config.Input{Path: s.Config, Env: os.LookupEnv, Flags: s.given()}
	if s.Config != "" {
		text, err := readConfig(s.Config)
		if err != nil {
			return nil, err
		}
		in.Text = text
	}
	c, err := config.Load(in)
	if err != nil {
		return nil, asUsage(err)
	}
	return c, nil
}

// asUsage makes the problems of a configuration an error of the one who has asked.
func asUsage(err error) error {
	var problems config.Problems
	if errors.As(err, &problems) && len(problems) > 1 {
		return usagef("the configuration has %d problems:\n%v", len(problems), problems)
	}
	return usagef("%v", err)
}

// readConfig reads a file of options.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	// One byte more than there may be says that there are too many.
	text, err := io.ReadAll(io.LimitReader(f, config.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return text, nil
}

// strays tells of variables of the environment that nobody looks at.
func strays(k *kong.Kong) []string {
	others := []string{passwordVariable}
	_ = kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			others = append(others, flag.Envs...)
		}
		return next(nil)
	})
	return config.Strays(os.Environ(), others)
}
