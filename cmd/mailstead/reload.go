package main

import "context"

// reload reads configuration and certificate again. What may change while the process
// runs is taken over at once, what may not is named; where anything is wrong, all
// stays as it was.
func (p *process) reload() {
	p.manager.reloading()
	next, err := p.load()
	if err != nil {
		p.stay(err)
		return
	}
	inForce, taken, restart := p.config.Reload(next)
	seals, err := readSeals(inForce)
	if err != nil {
		p.stay(err)
		return
	}
	if err := p.certificates.Read(certificateFiles(inForce)); err != nil {
		p.stay(err)
		return
	}
	if seals != nil || p.orders == nil { // who orders goes on until the restart that ends it
		p.seals.Store(seals)
	}
	if p.kept != nil {
		// What was sealed anew has to be known to be before the key that it was sealed by goes. It takes seconds at the most.
		if err := p.kept.Look(context.Background()); err != nil {
			p.log.Warn("which certificates there are is not known for now", "err", err)
		}
		p.kept.Seal(seals)
	}
	p.rejected.Store(false)
	p.config = inForce
	p.level.Set(inForce.Log.Level.Slog())
	for _, change := range p.change {
		change(inForce)
	}
	p.log.Info("configuration and certificate read again", "changed", taken)
	if len(restart) > 0 {
		p.log.Warn("settings have changed that take a restart", "settings", restart)
	}
	p.manager.ready("Serving")
}

// stay says what is wrong, each thing on a line of its own.
func (p *process) stay(err error) {
	p.rejected.Store(true)
	problems := []error{err}
	if all, many := err.(interface{ Unwrap() []error }); many {
		problems = all.Unwrap()
	}
	for _, problem := range problems {
		p.log.Error("configuration not read again, all stays as it was", "problem", problem)
	}
	p.manager.ready("Serving; the configuration was wrong when it was read again, and is not in force")
}
