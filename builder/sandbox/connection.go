package sandbox

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// connect returns both ends of a new stream socket. Reads of the first can be
// interrupted; the second is for another process.
func connect() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "sandbox"), os.NewFile(uintptr(pair[1]), "request"), nil
}

// exchange sends a request on a connection, forwards signals, and receives the reply. When
// ctx is cancelled it hangs up, which kills the command.
func exchange(ctx context.Context, conn *os.File, req, reply wire.Message, signals <-chan os.Signal) error {
	done := make(chan struct{})
	defer close(done)
	go forwardSignals(ctx, conn, signals, done)
	if err := wire.Send(conn, req); err != nil {
		return err
	}
	return wire.Receive(conn, reply)
}

// forwardSignals writes the numbers of signals to a connection until done is closed. When
// ctx is cancelled it closes the connection for writing.
func forwardSignals(ctx context.Context, conn *os.File, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			if raw, err := conn.SyscallConn(); err == nil {
				raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
			}
			return
		case s, ok := <-signals:
			if number, known := s.(syscall.Signal); ok && known {
				conn.Write([]byte{byte(number)})
			} else if !ok {
				signals = nil
			}
		}
	}
}
