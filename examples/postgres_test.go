package examples_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// selectGreeting reads a row of the database of the example postgres. A server that is
// starting refuses connections with an error, so it asks again.
func selectGreeting(t *testing.T, port string) {
	t.Helper()
	for {
		row, starting, err := query(port, "SELECT text FROM greetings WHERE name = 'you'")
		if starting {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil || row != "Hello, you." {
			t.Errorf("the database has %q, %v", row, err)
		}
		return
	}
}

// query returns the only column of the last row that a statement returns. starting means
// that the server cannot be asked yet.
func query(port, sql string) (row string, starting bool, err error) {
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	const version = 3 << 16
	hello := append(binary.BigEndian.AppendUint32(nil, version), "user\x00reader\x00database\x00greetings_db\x00\x00"...)
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(hello)+4)), hello...)); err != nil {
		return "", false, err
	}
	asked := false
	for {
		kind, body, err := message(c)
		switch {
		case err != nil:
			return row, false, err
		case kind == 'E':
			const cannotConnectNow = "C57P03\x00"
			return row, bytes.Contains(body, []byte(cannotConnectNow)), fmt.Errorf("the server says %q", body)
		case kind == 'Z' && asked:
			_, err := c.Write([]byte{'X', 0, 0, 0, 4})
			return row, false, err
		case kind == 'Z':
			asked = true
			q := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(sql)+5)), sql...)
			if _, err := c.Write(append(q, 0)); err != nil {
				return "", false, err
			}
		case kind == 'D' && len(body) >= 6: // the number of columns and the length of the first
			row = string(body[6:])
		}
	}
}

// message reads a message of the server.
func message(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<16 {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	body = make([]byte, n-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}
