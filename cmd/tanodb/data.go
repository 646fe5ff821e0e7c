package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type dataCmd struct {
	Get    dataGetCmd    `cmd:"" help:"Read a data type."`
	Update dataUpdateCmd `cmd:"" help:"Apply an operation to a data type."`
}

// Help is the long part of the command's help.
func (*dataCmd) Help() string {
	return `Counters, sets, maps and their like are changed by operations that need no reading, and never have siblings. A bucket has a data type by its bucket type; without one a key may be a counter, if its bucket keeps siblings.

    tanodb bucket-type create carts datatype=set
    tanodb bucket-type activate carts
    tanodb data update --type carts web anna --add milk --add bread
    tanodb data get --type carts web anna`
}

type dataGetCmd struct {
	keyArgs
	readFlags
	Context bool `help:"Write the context for data update --context instead of the value."`
	Explain bool `help:"Write what each replica answered instead of the value."`
}

// Help is the long part of the command's help.
func (*dataGetCmd) Help() string {
	return `The value is written as one line of JSON: a number for counter and hll, an array for set and gset, an object for map, whose fields are NAME_KIND.

Example:

    tanodb data get --type counters web visits
    tanodb data get --type carts web anna --context`
}

// Run reads the data type and writes what was asked for.
func (c *dataGetCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	query := a.timing()
	c.readFlags.set(query)
	d, err := askData(a, request{method: http.MethodGet, path: dataPath(key), query: query})
	if err != nil {
		err = fmt.Errorf("%v: %w", key, err)
		if a.json || c.Explain {
			return a.told(err)
		}
		return err // standard output is for the value alone
	}
	switch {
	case a.json:
		return a.printJSON(d)
	case c.Context:
		_, err = fmt.Fprintln(a.stdout, base64.StdEncoding.EncodeToString(d.Context))
		return err
	case c.Explain:
		return a.print(replies{d.Replies})
	}
	_, err = fmt.Fprintln(a.stdout, string(d.Value))
	return err
}

type dataUpdateCmd struct {
	keyArgs
	Op string `arg:"" optional:"" help:"The operation: a number to add, or JSON as Riak has it."`
	writeFlags
	sloppyFlag
	Add       []string `help:"Add this element to a set, gset or hll; may be said again." sep:"none" placeholder:"ELEMENT"`
	Remove    []string `help:"Remove this element from a set; may be said again." sep:"none" placeholder:"ELEMENT"`
	Context   string   `help:"What removals have seen: the context that data get --context has printed; none: what the replica that applies it has." placeholder:"CONTEXT"`
	RequestID string   `name:"request-id" help:"32 hexadecimal digits that name the operation: said again with it, it is not applied again where it is known." placeholder:"ID"`
	Value     bool     `help:"Print the value after the operation instead of the replicas' replies."`
}

// Help is the long part of the command's help.
func (*dataUpdateCmd) Help() string {
	return `An operation that fails with "in doubt" may have been applied. Said again, a counter may count it twice, unless both times had the same --request-id.

Examples:

    tanodb data update --type counters web visits 1
    tanodb data update --type carts web anna --add milk --remove bread
    tanodb data update --type maps web anna '{"update":{"visits_counter":1,"name_register":{"assign":"Anna"}},"remove":["old_set"]}'

A number below zero comes after two dashes: tanodb data update --type counters web visits -- -1`
}

// Run applies the operation.
func (c *dataUpdateCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	query := a.timing()
	c.writeFlags.set(query)
	c.sloppyFlag.set(query)
	if c.Value {
		query.Set("returnbody", "true")
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if c.RequestID != "" {
		if b, err := hex.DecodeString(c.RequestID); err != nil || len(b) != len(kv.RequestID{}) {
			return usagef("--request-id %q is not 32 hexadecimal digits", c.RequestID)
		}
		header.Set("X-Tanodb-Request-Id", c.RequestID)
	}
	d, err := askData(a, request{method: http.MethodPost, path: dataPath(key), query: query, header: header, body: body})
	switch {
	case err != nil:
		return a.told(err)
	case a.json:
		return a.printJSON(d)
	case c.Value:
		_, err = fmt.Fprintln(a.stdout, string(d.Value))
		return err
	}
	return a.print(replies{d.Replies})
}

// body is the operation as JSON.
func (c *dataUpdateCmd) body() ([]byte, error) {
	flags := len(c.Add)+len(c.Remove) > 0
	if flags == (c.Op != "") {
		return nil, usagef("say one operation: a number, JSON, or --add and --remove")
	}
	fields := map[string]any{}
	switch {
	case flags:
		if len(c.Add) > 0 {
			fields["add_all"] = api.Texts(c.Add)
		}
		if len(c.Remove) > 0 {
			fields["remove_all"] = api.Texts(c.Remove)
		}
	case c.Context == "":
		return []byte(c.Op), nil
	default:
		if !strings.HasPrefix(strings.TrimSpace(c.Op), "{") || json.Unmarshal([]byte(c.Op), &fields) != nil {
			return nil, usagef("--context is for operations that remove")
		}
	}
	if c.Context != "" {
		seen, err := parseContext(c.Context)
		if err != nil {
			return nil, err
		}
		fields["context"] = seen
	}
	return json.Marshal(fields)
}

// dataPath is where a data type is.
func dataPath(k kv.Key) string {
	return strings.TrimSuffix(bucketPath(ownPrefix, kv.Bucket{Type: k.Type, Name: k.Bucket}), "keys") + "datatypes/" + escape(k.Name)
}

// askData asks for a data type.
func askData(a *app, r request) (api.Data, error) {
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, r)
	if err != nil {
		return api.Data{}, err
	}
	var d api.Data
	return d, ans.decode(&d)
}
