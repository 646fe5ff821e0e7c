package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/kv"
)

// startNode starts a node in memory, as "tanodb serve" would one on a disk.
func startNode() (address string, stop func()) {
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage()})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := pb.NewServer(n, pb.Options{Cluster: n})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return l.Addr().String(), func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served, n.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

func Example() {
	address, stop := startNode()
	defer stop()

	c, err := client.New(client.Options{Addresses: []string{address}}) // and those of the other nodes
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	k := kv.Key{Bucket: "fruit", Name: "apple"}
	if _, err := c.Put(ctx, k, kv.Value{Data: []byte("red"), ContentType: "text/plain"}, kv.WriteOptions{}); err != nil {
		log.Fatal(err)
	}
	obj, err := c.Get(ctx, k, kv.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", obj.Values[0].Data)

	_, err = c.Get(ctx, kv.Key{Bucket: "fruit", Name: "pear"}, kv.ReadOptions{})
	fmt.Println(errors.Is(err, kv.ErrNotFound))
	// Output:
	// red
	// true
}

func ExampleClient_Modify() {
	address, stop := startNode()
	defer stop()

	c, err := client.New(client.Options{
		Addresses: []string{address},
		// Of baskets that were filled concurrently, keep all that is in any.
		Resolve: func(_ kv.Key, values []kv.Value) kv.Value {
			var all []string
			for _, v := range values {
				all = append(all, string(v.Data))
			}
			return kv.Value{Data: []byte(strings.Join(all, " "))}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	k := kv.Key{Bucket: "baskets", Name: "ann"}
	for _, item := range []string{"milk", "bread"} {
		_, err := c.Modify(ctx, k, kv.WriteOptions{}, func(v kv.Value, found bool) (kv.Value, error) {
			if !found {
				return kv.Value{Data: []byte(item)}, nil
			}
			v.Data = append(v.Data, " "+item...)
			return v, nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	v, _, err := c.GetOne(ctx, k, kv.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", v.Data)
	// Output: milk bread
}
