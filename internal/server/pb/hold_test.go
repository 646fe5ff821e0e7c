package pb

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// holdClients names the variable that makes the test's program the clients of
// TestManyIdleConnections: ADDRESS COUNT.
const holdClients = "TANODB_HOLD_CLIENTS"

// TestMain has no test leave a goroutine behind. Asked to, it holds connections instead.
func TestMain(m *testing.M) {
	if what := os.Getenv(holdClients); what != "" {
		if err := holdConnections(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// holdConnections connects so often, says so once each connection was served, and then
// waits until the server has closed them all.
func holdConnections(what string) error {
	address, number, _ := strings.Cut(what, " ")
	many, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	get, err := (proto.MarshalOptions{}).MarshalAppend([]byte{0, 0, 0, 0, byte(riakpb.GetReq)}, getOf("k"))
	if err != nil {
		return err
	}
	get[3] = byte(len(get) - riakpb.LengthSize)
	conns := make([]net.Conn, many)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", address); err != nil {
			return err
		}
		if _, err := conns[i].Write(get); err != nil {
			return err
		}
		if _, err := io.ReadFull(conns[i], make([]byte, headSize)); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	fmt.Println("held")
	for i, c := range conns {
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			return fmt.Errorf("connection %d: %d more bytes, %w", i, len(b), err)
		}
	}
	fmt.Println("closed")
	return nil
}
