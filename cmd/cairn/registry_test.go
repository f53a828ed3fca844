package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cairn-build/cairn/registry/server"
)

// testRegistry is the registry of a script.
type testRegistry struct {
	dir, addr      string
	user, password string
	readable       bool // without credentials
	listener       net.Listener
	stalled        bool // no request is answered
	ended          chan struct{}
}

func (s *testRegistry) start() error {
	h, err := server.Handler(s.dir, server.Options{NoSync: true, Auth: func(user, password string, write bool) bool {
		return s.readable && !write || user == s.user && password == s.password
	}})
	if err != nil {
		return err
	}
	addr := s.addr
	if addr == "" { // its own address, so that no other process takes the port while it is stopped
		addr = fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	}
	s.listener, err = net.Listen("tcp", addr)
	for errors.Is(err, syscall.EADDRINUSE) && addr == s.addr { // a process that is being started still holds the old one
		time.Sleep(10 * time.Millisecond)
		s.listener, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return err
	}
	s.addr = s.listener.Addr().String()
	ended := make(chan struct{})
	s.ended = ended
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stalled {
			select { // longer than clients wait
			case <-ended:
			case <-r.Context().Done():
			}
			return
		}
		h.ServeHTTP(w, r)
	})}
	go func(l net.Listener) { _ = srv.Serve(l) }(s.listener) // ends with stop
	return nil
}

func (s *testRegistry) stop() {
	if s.listener != nil {
		_ = s.listener.Close() // connections end by themselves
		close(s.ended)
		s.listener = nil
	}
}

func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "registry start|stop|stall|auth USER PASSWORD|readable USER PASSWORD")
	s := ts.Value(serverKey{}).(*testRegistry)
	switch args[0] {
	case "start":
		ts.Check(s.start())
	case "stop":
		s.stop()
	case "auth", "readable":
		need(ts, neg, args, 3, "registry "+args[0]+" USER PASSWORD")
		s.stop()
		s.readable = args[0] == "readable"
		s.user, s.password = args[1], args[2]
		ts.Check(s.start())
	case "stall":
		s.stop()
		s.stalled = true
		ts.Check(s.start())
	default:
		ts.Fatalf("registry cannot %s", args[0])
	}
}
