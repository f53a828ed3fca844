package main

import (
	"net"
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cairn-build/cairn/registry/actions/fake"
)

type actionsKey struct{}

// cmdActions makes the script a job of GitHub Actions: of github.com or, with
// version 1, of a server of one's own.
func cmdActions(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "actions 1|2|drop [PREFIX]")
	if args[0] == "drop" {
		(*ts.Value(actionsKey{}).(**fake.Service)).Drop(strings.Join(args[1:], ""))
		return
	}
	s := &fake.Service{}
	*ts.Value(actionsKey{}).(**fake.Service) = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: s}
	go func() { _ = server.Serve(l) }() // ends with Close
	ts.Defer(func() { _ = server.Close() })
	for name, value := range map[string]string{
		"ACTIONS_CACHE_URL":        "http://" + l.Addr().String() + "/",
		"ACTIONS_RESULTS_URL":      "http://" + l.Addr().String() + "/",
		"ACTIONS_RUNTIME_TOKEN":    fake.Token,
		"ACTIONS_CACHE_SERVICE_V2": map[string]string{"1": "", "2": "True"}[args[0]],
	} {
		ts.Setenv(name, value)
	}
}
