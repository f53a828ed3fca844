package sshagent

import (
	"crypto/ed25519"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

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

// lend serves an agent on a new socket.
func lend(t *testing.T, s *Set, id string) (socket string, client agent.ExtendedAgent) {
	t.Helper()
	l, err := s.Listen(id, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conn, err := net.Dial("unix", l.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return l.Address, agent.NewClient(conn)
}

// A socket in a directory whose path is too long for the kernel can be reached at its
// address, by other processes too, and is gone after Close.
func TestListenInLongDirectory(t *testing.T) {
	set, err := NewSet([]Source{{ID: Default, Paths: []string{newKey(t, t.TempDir(), "a")}}}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 30))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := set.Listen(Default, dir)
		if err != nil {
			t.Fatal(err)
		}
		if l.Path != filepath.Join(dir, "agent") || len(l.Address) > 100 {
			t.Errorf("path %s, address %s", l.Path, l.Address)
		}
		if list, err := exec.LookPath("ssh-add"); err == nil {
			c := exec.Command(list, "-l")
			c.Env = []string{"SSH_AUTH_SOCK=" + l.Address}
			if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "ED25519") {
				t.Errorf("ssh-add -l: %s, %v", out, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(l.Path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	}
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
		"$SSH_AUTH_SOCK is not set":  {{ID: "a"}},
		"given twice":                {{ID: "a", Paths: []string{key}}, {ID: "a", Paths: []string{key}}},
		"no such file":               {{ID: "a", Paths: []string{dir + "/none"}}},
		"no key found":               {{ID: "a", Paths: []string{text}}},
		"a socket can't be combined": {{ID: "a", Paths: []string{key, dir + "/s"}}},
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
