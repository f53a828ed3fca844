package builder

import (
	"context"
	"errors"
	"sync"

	"github.com/cairn-build/cairn/builder/cache/remote"
)

// importFolders gives a function that reads what others left of the folders of
// cache mounts, when the first RUN asks.
func (j *job) importFolders() func(context.Context) []*remote.Folders {
	if len(j.opt.CacheMountFrom) == 0 {
		return nil
	}
	var once sync.Once
	var all []*remote.Folders
	return func(ctx context.Context) []*remote.Folders {
		once.Do(func() {
			for _, w := range j.opt.CacheMountFrom {
				if f := j.importFoldersFrom(ctx, w); f != nil {
					all = append(all, f)
				}
			}
		})
		return all
	}
}

func (j *job) importFoldersFrom(ctx context.Context, w remote.Where) *remote.Folders {
	v := j.Progress.Vertex("importing cache mounts from " + w.String())
	v.Start()
	defer v.Done(nil)
	f, err := remote.ReadFolders(ctx, j.Registry, w)
	switch {
	case err == nil:
		return f
	case errors.Is(err, remote.ErrNone):
		v.Log(2, []byte("there are none yet\n"))
	case ctx.Err() == nil:
		v.Warn("%v: they begin empty", err)
	}
	return nil
}

// exportFolders leaves the folders of cache mounts for others. A build none of
// whose RUNs had one leaves what is there.
func (j *job) exportFolders(ctx context.Context) error {
	if len(j.opt.CacheMountTo) == 0 {
		return nil
	}
	folders, packErr := j.worker.PackFolders(ctx)
	if len(folders) == 0 && packErr == nil {
		return nil
	}
	for _, to := range j.opt.CacheMountTo {
		err := j.exportTo(ctx, "cache mounts", to, func() error {
			if packErr != nil {
				return packErr
			}
			return j.exportFoldersTo(ctx, to, folders)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *job) exportFoldersTo(ctx context.Context, to CacheTo, folders []remote.Folder) error {
	unlock, err := j.Store.Lock(ctx, "cache mounts "+to.String(), nil)
	if err != nil {
		return err
	}
	defer unlock()
	return remote.WriteFolders(ctx, j.Registry, to.Where, folders)
}
