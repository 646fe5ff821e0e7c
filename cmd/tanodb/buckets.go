package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type bucketTypeCmd struct {
	List     typeListCmd     `cmd:"" help:"List the bucket types."`
	Status   typeStatusCmd   `cmd:"" help:"Show the properties of a bucket type."`
	Create   typeCreateCmd   `cmd:"" help:"Make a bucket type. It has no buckets before it is activated."`
	Activate typeActivateCmd `cmd:"" help:"Let a bucket type have buckets, for ever."`
	Update   typeUpdateCmd   `cmd:"" help:"Change properties of a bucket type, and so of all its buckets."`
	Reset    typeResetCmd    `cmd:"" help:"Give all properties of a bucket type their defaults again."`
}

// Help is the long part of the command's help.
func (*bucketTypeCmd) Help() string {
	return `A bucket has the properties of its type, and may have some of its own over them. Buckets that name no type have the type "default", which can be updated too; of several writes it keeps the last one. Types that are made keep siblings.

    tanodb bucket-type create sessions allow_mult=false ttl=24h
    tanodb bucket-type activate sessions
    tanodb put --type sessions web anna 42
    tanodb bucket-type update default allow_mult=true

A property is NAME=VALUE; NAME= takes it back. Riak's form, one JSON object {"props":{...}}, is understood as well. docs/operations.md lists the properties.`
}

type bucketCmd struct {
	Props bucketPropsCmd `cmd:"" help:"Show the properties of a bucket."`
	Set   bucketSetCmd   `cmd:"" help:"Set properties of one bucket, over those of its type."`
	Reset bucketResetCmd `cmd:"" help:"Take back all properties that a bucket has of its own."`
}

// typesPath is where the routes of bucket types are.
const typesPath = ownPrefix + "/types"

// propArgs are properties on the command line.
type propArgs struct {
	Props []string `arg:"" optional:"" name:"name=value" help:"Properties."`
}

// properties reads them.
func (p *propArgs) properties() (kv.Properties, error) {
	if len(p.Props) == 1 && strings.HasPrefix(p.Props[0], "{") {
		var body struct {
			Props kv.Properties `json:"props"`
		}
		if err := json.Unmarshal([]byte(p.Props[0]), &body); err != nil || body.Props == nil {
			return nil, usagef(`%s is not {"props":{...}}`, p.Props[0])
		}
		return body.Props, nil
	}
	var list kv.Properties
	for _, arg := range p.Props {
		name, value, found := strings.Cut(arg, "=")
		if !found || name == "" {
			return nil, usagef("%q is not NAME=VALUE", arg)
		}
		list = append(list, kv.Property{Name: name, Value: value})
	}
	if _, err := list.Canonical(); err != nil {
		return nil, usagef("%v", err)
	}
	return list, nil
}

// some are the properties of a command that takes at least one.
func (p *propArgs) some() (kv.Properties, error) {
	if len(p.Props) == 0 {
		return nil, usagef("say at least one property, as NAME=VALUE")
	}
	return p.properties()
}

// typeArg names a bucket type.
type typeArg struct {
	Name string `arg:"" help:"The name of the bucket type."`
}

type typeListCmd struct{}

// bucketTypes prints as a table.
type bucketTypes []tanodb.BucketType

// String is a line for each type.
func (l bucketTypes) String() string {
	t := newTable("TYPE", "STATUS", "N", "SIBLINGS", "TTL", "DATATYPE")
	for _, x := range l {
		status := "active"
		if !x.Active {
			status = "created"
		}
		siblings := "kept"
		if x.Props.Lookup("allow_mult") == "false" {
			siblings = "last write wins"
		}
		ttl := x.Props.Lookup("ttl")
		if ttl == "0s" {
			ttl = ""
		}
		t.row(x.Name, status, x.Props.Lookup("n_val"), siblings, ttl, x.Props.Lookup("datatype"))
	}
	return t.String()
}

// Help is the long part of the command's help.
func (*typeListCmd) Help() string {
	return `Example:

    tanodb bucket-type list`
}

// Run lists the types.
func (c *typeListCmd) Run(a *app) error {
	types, err := a.bucketTypes()
	if err != nil {
		return a.told(err)
	}
	return a.print(bucketTypes(types))
}

func (a *app) bucketTypes() ([]tanodb.BucketType, error) {
	var list api.BucketTypes
	err := a.exchange(http.MethodGet, typesPath, nil, &list)
	return list.Types, err
}

type typeStatusCmd struct{ typeArg }

// properties prints as a table.
type properties kv.Properties

// MarshalJSON is Riak's object of names and values.
func (p properties) MarshalJSON() ([]byte, error) { return kv.Properties(p).MarshalJSON() }

// String is a line for each property.
func (p properties) String() string {
	t := newTable("PROPERTY", "VALUE")
	for _, x := range p {
		t.row(x.Name, x.Value)
	}
	return t.String()
}

// Help is the long part of the command's help.
func (*typeStatusCmd) Help() string {
	return `Example:

    tanodb bucket-type status sessions`
}

// Run shows the type.
func (c *typeStatusCmd) Run(a *app) error {
	types, err := a.bucketTypes()
	if err != nil {
		return a.told(err)
	}
	for _, x := range types {
		if x.Name == c.Name {
			return a.print(properties(x.Props))
		}
	}
	return a.told(usagef("there is no bucket type named %s: see tanodb bucket-type list", c.Name))
}

type typeCreateCmd struct {
	typeArg
	propArgs
}

// Help is the long part of the command's help.
func (*typeCreateCmd) Help() string {
	return `Example:

    tanodb bucket-type create sessions allow_mult=false ttl=24h`
}

// Run makes the type.
func (c *typeCreateCmd) Run(a *app) error {
	props, err := c.properties()
	if err != nil {
		return err
	}
	return a.changeType("create", api.BucketType{Name: c.Name, Props: props}, c.Name+" is created; to have buckets it must be activated: tanodb bucket-type activate "+c.Name)
}

type typeActivateCmd struct{ typeArg }

// Help is the long part of the command's help.
func (*typeActivateCmd) Help() string {
	return `Example:

    tanodb bucket-type activate sessions`
}

// Run activates the type.
func (c *typeActivateCmd) Run(a *app) error {
	return a.changeType("activate", api.BucketType{Name: c.Name}, c.Name+" is active")
}

type typeUpdateCmd struct {
	typeArg
	propArgs
}

// Help is the long part of the command's help.
func (*typeUpdateCmd) Help() string {
	return `Example:

    tanodb bucket-type update sessions ttl=48h w=`
}

// Run changes the type.
func (c *typeUpdateCmd) Run(a *app) error {
	props, err := c.some()
	if err != nil {
		return err
	}
	return a.changeType("update", api.BucketType{Name: c.Name, Props: props}, c.Name+" is updated")
}

type typeResetCmd struct{ typeArg }

// Help is the long part of the command's help.
func (*typeResetCmd) Help() string {
	return `Example:

    tanodb bucket-type reset sessions`
}

// Run resets the type.
func (c *typeResetCmd) Run(a *app) error {
	return a.changeType("reset", api.BucketType{Name: c.Name}, c.Name+" has the default properties")
}

func (a *app) changeType(order string, t api.BucketType, done string) error {
	if err := a.exchange(http.MethodPost, typesPath+"/"+order, t, &t); err != nil {
		return a.told(err)
	}
	return a.print(ordered{t, done})
}

// exchange sends JSON, or nothing, and reads JSON, or nothing.
func (a *app) exchange(method, path string, body, into any) error {
	r := request{method: method, path: path, query: a.clusterQuery()}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r.header, r.body = http.Header{"Content-Type": {"application/json"}}, b
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, r)
	if err != nil || into == nil {
		return err
	}
	return ans.decode(into)
}

// bucketArgs name a bucket.
type bucketArgs struct {
	Bucket string `arg:"" help:"The bucket."`
	nameFlags
}

// path is the route of the bucket's properties.
func (c *bucketArgs) path() (string, error) {
	b, err := c.bucket(c.Bucket)
	if err != nil {
		return "", err
	}
	p := ownPrefix
	if b.Type != "" {
		p += "/types/" + url.PathEscape(b.Type)
	}
	return p + "/buckets/" + url.PathEscape(b.Name) + "/props", nil
}

type bucketPropsCmd struct{ bucketArgs }

// Help is the long part of the command's help.
func (*bucketPropsCmd) Help() string {
	return `Example:

    tanodb bucket props --type sessions web`
}

// Run shows the properties.
func (c *bucketPropsCmd) Run(a *app) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	var body struct {
		Props kv.Properties `json:"props"`
	}
	if err := a.exchange(http.MethodGet, path, nil, &body); err != nil {
		return a.told(err)
	}
	return a.print(properties(body.Props))
}

type bucketSetCmd struct {
	bucketArgs
	propArgs
}

// Help is the long part of the command's help.
func (*bucketSetCmd) Help() string {
	return `Example:

    tanodb bucket set carts allow_mult=true siblings_warning=10`
}

// Run sets properties.
func (c *bucketSetCmd) Run(a *app) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	props, err := c.some()
	if err != nil {
		return err
	}
	body := map[string]kv.Properties{"props": props}
	if err := a.exchange(http.MethodPut, path, body, nil); err != nil {
		return a.told(err)
	}
	return a.print(ordered{body, "the bucket has these properties from now on"})
}

type bucketResetCmd struct{ bucketArgs }

// Help is the long part of the command's help.
func (*bucketResetCmd) Help() string {
	return `Example:

    tanodb bucket reset carts`
}

// Run takes them back.
func (c *bucketResetCmd) Run(a *app) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	if err := a.exchange(http.MethodDelete, path, nil, nil); err != nil {
		return a.told(err)
	}
	return a.print(ordered{struct{}{}, "the bucket has the properties of its type"})
}
