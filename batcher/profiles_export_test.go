package batcher

// Growth is how much larger p can become by being merged into something else.
func Growth(p *ProfilesData, limit int) int { return profiles{}.growth(p, limit) }

// WithRaceDetector tells whether time is no measure.
const WithRaceDetector = raceEnabled
