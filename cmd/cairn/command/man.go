package command

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// newMan returns a hidden command for make install and packagers.
func newMan(p *Program) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages",
		Args:   exactArgs("DIR"),
		Hidden: true,
		RunE: p.action(func(_ context.Context, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, page := range Reference() {
				name := "cairn-" + page.Name
				if page.Name == "cairn" {
					name = page.Name
				}
				if err := os.WriteFile(filepath.Join(args[0], name+".1"), []byte(page.Man), 0o644); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
