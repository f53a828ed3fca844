// Package agent lends ssh agents to steps, so that they can use keys which they
// never see.
//
// An agent is one of the user's, or one in this process that holds the keys of
// files. Either way a step may list keys and have things signed, and nothing
// else.
package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Default is the id that a --mount=type=ssh without one means.
const Default = "default"

// maxKey bounds a key's file.
const maxKey = 100 << 10

// Source says where the agent of an id is: Paths is one socket, or files of
// private keys. With none it is the user's own agent.
type Source struct {
	ID    string
	Paths []string
}

// Parse reads one --ssh: default, or ID with =SOCKET or =KEY,...
func Parse(text string) (Source, error) {
	id, paths, found := strings.Cut(text, "=")
	switch {
	case id == "":
		return Source{}, errors.New("the id is missing: want default or ID[=SOCKET|KEY[,KEY]]")
	case !found || paths == "":
		return Source{ID: id}, nil
	}
	return Source{ID: id, Paths: strings.Split(paths, ",")}, nil
}

// Set is the agents of one build. A nil set has none.
type Set struct {
	agents map[string]lender
}

// lender is a keyring of ours, or the socket of another's agent.
type lender struct {
	socket string
	keys   agent.ExtendedAgent
}

// NewSet reads the keys and checks that sockets are there. lookup reads the
// environment, as [os.LookupEnv] does.
func NewSet(sources []Source, lookup func(string) (string, bool)) (*Set, error) {
	s := &Set{agents: map[string]lender{}}
	for _, src := range sources {
		if _, ok := s.agents[src.ID]; ok {
			return nil, fmt.Errorf("ssh agent %s is given twice", src.ID)
		}
		if len(src.Paths) == 0 {
			own, _ := lookup("SSH_AUTH_SOCK")
			if own == "" {
				return nil, fmt.Errorf("ssh agent %s: $SSH_AUTH_SOCK is not set: start an agent, or name a key with --ssh %s=KEY", src.ID, src.ID)
			}
			src.Paths = []string{own}
		}
		l, err := newLender(src.Paths)
		if err != nil {
			return nil, fmt.Errorf("ssh agent %s: %w", src.ID, err)
		}
		s.agents[src.ID] = l
	}
	return s, nil
}

func newLender(paths []string) (lender, error) {
	l := lender{keys: agent.NewKeyring().(agent.ExtendedAgent)}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return lender{}, err
		}
		if fi.Mode()&os.ModeSocket != 0 {
			if len(paths) > 1 {
				return lender{}, errors.New("a socket goes with no other socket and no key")
			}
			return lender{socket: path}, nil
		}
		key, err := readKey(path)
		if err == nil {
			err = l.keys.Add(agent.AddedKey{PrivateKey: key})
		}
		if err != nil {
			return lender{}, fmt.Errorf("key %s: %w", path, err)
		}
	}
	return l, nil
}

func readKey(path string) (any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, errors.New("it has a passphrase: add it to an agent with ssh-add, and pass the agent on with --ssh default")
	}
	return key, err
}

// Has tells whether the build has an agent of that id.
func (s *Set) Has(id string) bool {
	if s == nil {
		return false
	}
	_, ok := s.agents[id]
	return ok
}

// Serve answers those who connect to l with the agent of an id, until l is
// closed.
func (s *Set) Serve(id string, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.agents[id].answer(conn)
	}
}
