package sshagent

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the size of a socket's path in the kernel, with its zero byte.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path)

// Socket is a Unix socket that serves one agent of a Set until Close.
type Socket struct {
	Path string // in the directory given to Listen
	// Address is a path by which other processes can connect. It is Path unless that is
	// longer than the kernel accepts.
	Address string

	listener *net.UnixListener
	dir      *os.File // which Address refers to; nil: Address is Path
}

// Listen serves the agent of an id on a new socket in dir.
func (s *Set) Listen(id, dir string) (*Socket, error) {
	k := &Socket{Path: filepath.Join(dir, "agent")}
	k.Address = k.Path
	if len(k.Path) >= maxSocketPath {
		if err := k.shorten(dir); err != nil {
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: k.Address})
	if err != nil {
		return nil, errors.Join(err, k.closeDir())
	}
	k.listener = l
	go s.serve(id, l)
	return k, nil
}

// shorten opens dir as N and sets Address to /proc/PID/fd/N/agent. PID comes from
// /proc/self, since /proc may belong to an outer PID namespace.
func (k *Socket) shorten(dir string) error {
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	if k.dir, err = os.Open(dir); err != nil {
		return err
	}
	k.Address = "/proc/" + pid + "/fd/" + strconv.Itoa(int(k.dir.Fd())) + "/agent"
	return nil
}

// Close stops serving and removes the socket.
func (k *Socket) Close() error { return errors.Join(k.listener.Close(), k.closeDir()) }

func (k *Socket) closeDir() error {
	if k.dir == nil {
		return nil
	}
	return k.dir.Close()
}
