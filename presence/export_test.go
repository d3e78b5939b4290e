package presence

// Moment is for the model, which runs Step itself.
var Moment = momentOf

const OnlineSlice = onlineSlice
