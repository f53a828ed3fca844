package builder_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// Two images of one repository are built in one graph, so that the stages that they
// share are built once.
func ExampleSession_Build() {
	images, err := store.Open("/var/lib/cairn")
	if err != nil {
		log.Fatal(err)
	}
	defer images.Close()
	client, err := registry.New(registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := builder.NewSession(builder.SessionOptions{
		Store: images, Registry: client, Progress: progress.New(progress.Auto, log.Writer()),
		Isolation: sandbox.Isolation{Mode: sandbox.Namespaces},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	web := builder.Target{Name: "web", Context: ".", Stage: "web"}
	web.Tags, web.Push = []string{"registry.example/web:1"}, true
	api := builder.Target{Name: "api", Context: ".", Stage: "api"}
	api.Tags, api.Push = []string{"registry.example/api:1"}, true
	built, err := session.Build(context.Background(), web, api)
	if err != nil {
		log.Fatal(err)
	}
	for _, image := range built {
		fmt.Println(image.Tags, image.Digest())
	}
}
