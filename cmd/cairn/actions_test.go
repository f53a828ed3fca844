package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cairn-build/cairn/builder/cache/gha/fake"
	"github.com/cairn-build/cairn/builder/cache/object"
	azblob "github.com/cairn-build/cairn/builder/cache/object/azblob/fake"
	s3client "github.com/cairn-build/cairn/builder/cache/object/s3"
	s3 "github.com/cairn-build/cairn/builder/cache/object/s3/fake"
)

type actionsKey struct{}

// cmdActions makes the script a job of GitHub Actions: of github.com or, with
// version 1, of a self-hosted server.
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

// cmdS3 starts an S3 server; $S3 is its address, and the user's key is in the
// environment. It may have a copy of a file as an object.
func cmdS3(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "s3 [FILE KEY]")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: &s3.Server{}}
	go func() { _ = server.Serve(l) }() // ends with Close
	ts.Defer(func() { _ = server.Close() })
	for name, value := range map[string]string{
		"S3": "http://" + l.Addr().String(), "AWS_BUCKET": s3.Bucket, "AWS_REGION": s3.Region,
		"AWS_ACCESS_KEY_ID": s3.User.ID, "AWS_SECRET_ACCESS_KEY": s3.User.Secret,
	} {
		ts.Setenv(name, value)
	}
	if len(args) < 2 {
		return
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	c, err := s3client.New(s3client.Options{Bucket: s3.Bucket, Region: s3.Region, Endpoint: ts.Getenv("S3"), Credentials: s3client.Credentials{ID: s3.User.ID, Secret: s3.User.Secret}})
	ts.Check(err)
	sum := sha256.Sum256(data)
	ts.Check(c.Put(context.Background(), args[1], object.Content{
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}, ""))
}

// cmdAzure starts a server of Azure Blob Storage; its account is in the environment, and
// its key is $AZURE_KEY.
func cmdAzure(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "azure")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: &azblob.Server{}}
	go func() { _ = server.Serve(l) }() // ends with Close
	ts.Defer(func() { _ = server.Close() })
	ts.Setenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "http://"+l.Addr().String()+"/"+azblob.Account)
	ts.Setenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", azblob.Account)
	ts.Setenv("AZURE_KEY", azblob.Key)
}
