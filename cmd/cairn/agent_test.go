package main

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh/agent"
)

// agentKeys is a program for steps. It lists the comments of the keys of the agent at
// $SSH_AUTH_SOCK, after trying to remove them and to sign.
func agentKeys() {
	conn, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	a := agent.NewClient(conn)
	if a.RemoveAll() == nil || a.Lock([]byte("x")) == nil {
		fmt.Println("the agent lets itself be changed")
	}
	keys, err := a.List()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, key := range keys {
		if _, err := a.Sign(key, []byte("text")); err != nil {
			fmt.Println(err)
		}
		fmt.Println("key", key.Type(), key.Comment)
	}
}
