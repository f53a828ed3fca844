package agent

import (
	"crypto/ed25519"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text  string
		id    string
		paths []string
		bad   bool
	}{
		{text: "default", id: "default"},
		{text: "a=", id: "a"},
		{text: "a=/s", id: "a", paths: []string{"/s"}},
		{text: "a=k,l=m", id: "a", paths: []string{"k", "l=m"}},
		{text: "=k", bad: true},
		{text: "", bad: true},
	} {
		s, err := Parse(test.text)
		if (err != nil) != test.bad || s.ID != test.id || !slices.Equal(s.Paths, test.paths) {
			t.Errorf("Parse(%q) = %+v, %v", test.text, s, err)
		}
	}
}

func newKey(t *testing.T, dir, name string) (path string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, name)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lend serves an agent at a new socket.
func lend(t *testing.T, s *Set, id string) (socket string, client agent.ExtendedAgent) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.Serve(id, l)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return socket, agent.NewClient(conn)
}

func TestLentAgentsSignAndKeepTheirKeys(t *testing.T) {
	dir := t.TempDir()
	keys, err := NewSet([]Source{{ID: "keys", Paths: []string{newKey(t, dir, "a"), newKey(t, dir, "b")}}}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	socket, ofKeys := lend(t, keys, "keys")
	lookup := func(string) (string, bool) { return socket, true }
	own, err := NewSet([]Source{{ID: Default}}, lookup)
	if err != nil {
		t.Fatal(err)
	}
	_, ofSocket := lend(t, own, Default)
	for name, a := range map[string]agent.ExtendedAgent{"keys": ofKeys, "socket": ofSocket} {
		list, err := a.List()
		if err != nil || len(list) != 2 {
			t.Fatalf("%s: %v, %v", name, list, err)
		}
		signature, err := a.Sign(list[0], []byte("x"))
		if err != nil || list[0].Verify([]byte("x"), signature) != nil {
			t.Errorf("%s: signing: %v", name, err)
		}
		for what, err := range map[string]error{
			"remove": a.Remove(list[0]), "remove all": a.RemoveAll(), "lock": a.Lock([]byte("p")), "unlock": a.Unlock([]byte("p")),
			"add": a.Add(agent.AddedKey{PrivateKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}),
		} {
			if err == nil {
				t.Errorf("%s: the agent allows %s", name, what)
			}
		}
		if again, err := a.List(); err != nil || len(again) != 2 {
			t.Errorf("%s: afterwards %v, %v", name, again, err)
		}
	}
}

func TestNewSetRefuses(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t, dir, "key")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	none := func(string) (string, bool) { return "", false }
	for want, sources := range map[string][]Source{
		"$SSH_AUTH_SOCK is not set": {{ID: "a"}},
		"given twice":               {{ID: "a", Paths: []string{key}}, {ID: "a", Paths: []string{key}}},
		"no such file":              {{ID: "a", Paths: []string{dir + "/none"}}},
		"no key found":              {{ID: "a", Paths: []string{text}}},
		"a socket goes with":        {{ID: "a", Paths: []string{key, dir + "/s"}}},
	} {
		if _, err := NewSet(sources, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", sources, err, want)
		}
	}
	if (*Set)(nil).Has("a") {
		t.Error("no set has an agent")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, listRequest})
	f.Add([]byte{0, 0, 0, 5, signRequest, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 19, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, requests []byte) {
		l := lender{keys: agent.NewKeyring().(agent.ExtendedAgent)}
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, ours)
		go func() {
			ours.Write(requests)
			ours.Close()
		}()
		l.answer(theirs)
	})
}
